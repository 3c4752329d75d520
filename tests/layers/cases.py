"""One case of every masked layer, and what tests do with it."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops
from maskable_layers import Bottleneck, MaskedBottleneck

import scl_keras.layers as masked
from scl_keras import find_masks


@dataclasses.dataclass(frozen=True)
class Case:
    """A masked layer and its stock twin, by functions that take a dtype."""

    name: str
    masked: Callable
    stock: Callable
    shape: tuple
    tokens: int = 0
    self_attention: bool = False

    def call(self, layer, x):
        return layer(x, x) if self.self_attention else layer(x)

    def inputs(self, rng, dtype="float32"):
        if self.tokens:
            tokens = rng.integers(0, self.tokens, self.shape)
            return ops.convert_to_tensor(tokens, "int32")
        return ops.convert_to_tensor(rng.normal(size=self.shape), dtype)

    def symbolic(self):
        return keras.Input(self.shape[1:], dtype="int32" if self.tokens else None)

    def model(self, layer):
        x = self.symbolic()
        return keras.Model(x, self.call(layer, x))

    def twins(self, **kwargs):
        """Both layers, built, with the same weights."""
        pair = self.masked(**kwargs), self.stock(**kwargs)
        for layer in pair:
            self.call(layer, self.symbolic())
        copy_weights(*pair)
        return pair


def plain_weights(layer):
    return [w for w in layer.weights if not hasattr(w, "connection_mask")]


def copy_weights(source, target):
    """Copies all weights but masks, biases with values of their own."""
    rng = np.random.default_rng(3)
    pairs = zip(plain_weights(source), plain_weights(target), strict=True)
    for a, b in pairs:
        if not np.any(a.numpy()):
            a.assign(rng.normal(size=a.shape))
        b.assign(a)


def random_masks(layer, share=0.5):
    rng = np.random.default_rng(4)
    for mask in find_masks(layer):
        s = mask.variable
        s.assign(np.where(rng.random(s.shape) < share, 1, -1))


def case(name, shape, *args, tokens=0, self_attention=False, **kwargs):
    def make(cls):
        return lambda **more: cls(*args, **kwargs, **more)

    classes = getattr(masked, f"Masked{name}"), getattr(layers, name)
    return Case(name, *map(make, classes), shape, tokens, self_attention)


def cell(name, shape):
    def make(cls):
        return lambda dtype=None, **more: layers.RNN(
            cls(3, dtype=dtype, **more), dtype=dtype
        )

    classes = getattr(masked, f"Masked{name}"), getattr(layers, name)
    return Case(name, *map(make, classes), shape)


def bidirectional(cls):
    return lambda dtype=None, **more: cls(
        layers.LSTM(3, dtype=dtype, return_sequences=True), dtype=dtype, **more
    )


def wrapped(cls):
    return lambda dtype=None, **more: layers.TimeDistributed(
        cls(3, dtype=dtype, **more), dtype=dtype
    )


PENALTIES = {"kernel_regularizer": "l2", "bias_regularizer": "l1"}
DEPTHWISE = {"depthwise_regularizer": "l2", "depth_multiplier": 2}
CASES = [
    case("Dense", (3, 6), 5, "tanh", **PENALTIES),
    case("EinsumDense", (3, 2, 6), "abc,cde->abde", (None, 4, 5), bias_axes="de"),
    case("Conv1D", (2, 9, 4), 6, 3, groups=2, activation="relu", **PENALTIES),
    case("Conv2D", (2, 7, 6, 4), 6, (3, 2), (1, 2), "same"),
    case("Conv3D", (2, 5, 4, 4, 2), 3, 2, dilation_rate=2, **PENALTIES),
    case("Conv1DTranspose", (2, 5, 3), 4, 3, strides=2, **PENALTIES),
    case("Conv2DTranspose", (2, 4, 3, 3), 4, (3, 2), 2, "same"),
    case("Conv3DTranspose", (2, 3, 3, 2, 2), 3, 2, activation="relu"),
    case("DepthwiseConv1D", (2, 8, 3), 3, **DEPTHWISE),
    case("DepthwiseConv2D", (2, 6, 6, 3), 3, 2, "same", **DEPTHWISE),
    case("SeparableConv1D", (2, 8, 3), 4, 3, **DEPTHWISE),
    case("SeparableConv2D", (2, 6, 6, 3), 4, 3, pointwise_regularizer="l2"),
    case("Embedding", (3, 5), 7, 4, mask_zero=True, tokens=7),
    case("ReversibleEmbedding", (3, 5), 7, 4, tokens=7),
    cell("SimpleRNNCell", (2, 4, 3)),
    cell("GRUCell", (2, 4, 3)),
    cell("LSTMCell", (2, 4, 3)),
    case("SimpleRNN", (2, 4, 3), 3, recurrent_regularizer="l2"),
    case("GRU", (2, 4, 3), 3, return_sequences=True, **PENALTIES),
    case("LSTM", (2, 4, 3), 3, go_backwards=True, recurrent_regularizer="l2"),
    Case(
        "Bidirectional",
        bidirectional(masked.MaskedBidirectional),
        bidirectional(layers.Bidirectional),
        (2, 4, 3),
    ),
    case("MultiHeadAttention", (2, 4, 6), 2, 3, self_attention=True, **PENALTIES),
    case("GroupQueryAttention", (2, 4, 6), 3, 4, 2, self_attention=True),
    Case(
        "TimeDistributed",
        wrapped(masked.MaskedDense),
        wrapped(layers.Dense),
        (2, 4, 3),
    ),
    Case(
        "one's own",
        lambda **more: MaskedBottleneck(4, 5, **more),
        lambda **more: Bottleneck(4, 5, **more),
        (3, 6),
    ),
]
