"""Masked layers, and what makes one's own layer maskable."""

from scl_keras.layers import embedding
from scl_keras.layers.attention import (
    MaskedGroupQueryAttention,
    MaskedMultiHeadAttention,
)
from scl_keras.layers.convolution import MaskedConv1D, MaskedConv2D, MaskedConv3D
from scl_keras.layers.declarations import MaskedBias, MaskedKernel
from scl_keras.layers.dense import MaskedDense, MaskedEinsumDense
from scl_keras.layers.depthwise_convolution import (
    MaskedDepthwiseConv1D,
    MaskedDepthwiseConv2D,
    MaskedSeparableConv1D,
    MaskedSeparableConv2D,
)
from scl_keras.layers.embedding import MaskedEmbedding
from scl_keras.layers.followers import (
    MaskedActivation,
    MaskedBatchNormalization,
    MaskedReLU,
)
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.recurrent import (
    MaskedBidirectional,
    MaskedGRU,
    MaskedGRUCell,
    MaskedLSTM,
    MaskedLSTMCell,
    MaskedSimpleRNN,
    MaskedSimpleRNNCell,
)
from scl_keras.layers.transposed_convolution import (
    MaskedConv1DTranspose,
    MaskedConv2DTranspose,
    MaskedConv3DTranspose,
)

__all__ = [
    "MaskedActivation",
    "MaskedBatchNormalization",
    "MaskedBias",
    "MaskedBidirectional",
    "MaskedConv1D",
    "MaskedConv1DTranspose",
    "MaskedConv2D",
    "MaskedConv2DTranspose",
    "MaskedConv3D",
    "MaskedConv3DTranspose",
    "MaskedDense",
    "MaskedDepthwiseConv1D",
    "MaskedDepthwiseConv2D",
    "MaskedEinsumDense",
    "MaskedEmbedding",
    "MaskedGRU",
    "MaskedGRUCell",
    "MaskedGroupQueryAttention",
    "MaskedKernel",
    "MaskedLSTM",
    "MaskedLSTMCell",
    "MaskedLayer",
    "MaskedMultiHeadAttention",
    "MaskedReLU",
    "MaskedSeparableConv1D",
    "MaskedSeparableConv2D",
    "MaskedSimpleRNN",
    "MaskedSimpleRNNCell",
]
if hasattr(embedding, "MaskedReversibleEmbedding"):
    from scl_keras.layers.embedding import MaskedReversibleEmbedding

    __all__ += ["MaskedReversibleEmbedding"]
