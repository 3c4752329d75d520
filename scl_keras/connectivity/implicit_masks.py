"""Masks of time steps that Keras hands from layer to layer beside the tensors.

A graph doesn't always tell: attention takes masks off its inputs when it is called.
"""

import keras
from keras import layers

from scl_keras.graph.walking import walk_inside


def hands_mask_on(operation, under_mask):
    """Whether the outputs of a call may carry a mask.

    Args:
        operation: The layer or operation.
        under_mask: Whether one of its inputs may carry one.
    """
    if not isinstance(operation, keras.layers.Layer):
        return False
    if under_mask and operation.supports_masking:
        return True
    return any(map(_makes_mask, walk_inside(operation)))


def _makes_mask(layer):
    if isinstance(layer, layers.Embedding):
        return layer.mask_zero
    if isinstance(layer, layers.Masking):
        return True
    return not type(layer).compute_mask.__module__.startswith("keras.")
