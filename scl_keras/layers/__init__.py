"""Masked layers, and what makes one's own layer maskable."""

from scl_keras.layers.convolution import MaskedConv2D
from scl_keras.layers.dense import MaskedDense
from scl_keras.layers.masked_layer import MaskedKernel, MaskedLayer

__all__ = ["MaskedConv2D", "MaskedDense", "MaskedKernel", "MaskedLayer"]
