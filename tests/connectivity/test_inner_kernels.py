"""Kernels of layers inside of layers: cells, projections, what wrappers wrap."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from maskable_layers import Bottleneck

from scl_keras import (
    MaskedKernel,
    MaskedLayer,
    prune,
    sparsify,
    stand_in,
    strip_masks,
    summary,
)
from scl_keras.connectivity import ConnectionGraph


@keras.saving.register_keras_serializable("inner_kernels")
class Residual(layers.Layer):
    """A composite layer of one's own: a kernel, and a layer inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(3, name="inner")

    def build(self, input_shape):
        self.mix = self.add_weight((input_shape[-1], 3), name="mix")
        self.inner.build(input_shape)

    def call(self, x):
        return self.inner(x) + x @ self.mix


@keras.saving.register_keras_serializable("inner_kernels")
class MaskedResidual(MaskedLayer, Residual):
    mix = MaskedKernel()


@stand_in(Residual, kernels=("mix",))
def _(layer, x, mix):
    return x @ mix  # it says nothing of the layer inside


def attention(layer):
    return lambda x: layer(x, x)


def masked_attention(x):
    """Keras takes the mask off the tensors, so that the graph doesn't show it."""
    x = layers.Masking()(x)
    return layers.MultiHeadAttention(2, 2)(x, x)[:, :]


LAYERS = {
    "LSTM": lambda: layers.LSTM(3),
    "GRU": lambda: layers.GRU(3),
    "SimpleRNN": lambda: layers.SimpleRNN(3),
    "RNN": lambda: layers.RNN(layers.LSTMCell(3)),
    "RNN of two cells": lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)]),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(3)),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3)),
    "MultiHeadAttention": lambda: attention(layers.MultiHeadAttention(2, 2)),
    "GroupQueryAttention": lambda: attention(layers.GroupQueryAttention(2, 4, 2)),
    "attention with a mask": lambda: masked_attention,
    "attention with its scores": lambda: (
        lambda x: layers.MultiHeadAttention(2, 2)(x, x, return_attention_scores=True)[0]
    ),
    "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Dense(3)),
    "one's own": Residual,
    "one's own in a wrapper": lambda: layers.TimeDistributed(Bottleneck(2, 3)),
}


@keras.saving.register_keras_serializable("inner_kernels")
class OwnCell(layers.SimpleRNNCell):
    """Stands for a cell that computes something else."""


@keras.saving.register_keras_serializable("inner_kernels")
class MaskedOwnCell(MaskedLayer, OwnCell):
    kernel = MaskedKernel()
    recurrent_kernel = MaskedKernel()


@keras.saving.register_keras_serializable("inner_kernels")
class Opaque(layers.Layer):
    def call(self, x):
        return tf.reverse(x, [-1])  # no function of `keras.ops`, which can be followed


@keras.saving.register_keras_serializable("inner_kernels")
def sorted_units(x):
    return keras.ops.sort(x, axis=-1)


CONSERVATIVE = {
    "LSTM with a mask": lambda: lambda x: layers.LSTM(3)(layers.Masking()(x)),
    "a cell of one's own": lambda: layers.RNN(OwnCell(3)),
    "an activation of one's own": lambda: layers.GRU(3, activation=sorted_units),
    "one's own cell, both ways": lambda: layers.Bidirectional(layers.RNN(OwnCell(3))),
    "one's own at each step": lambda: layers.TimeDistributed(
        keras.Sequential([layers.Dense(3), Opaque()])
    ),
    "GRU with an initial state": lambda: (
        lambda x: layers.GRU(3)(x, initial_state=[layers.Flatten()(x)[:, :3]])
    ),
    "LSTM with a state": lambda: layers.LSTM(3, stateful=True),
    "one's own": Residual,
}


def net(layer):
    x = inputs = keras.Input(batch_shape=(1, 4, 3))
    x = layer(layers.Dense(3, name="first")(x))
    outputs = layers.Dense(2, name="last")(layers.Flatten()(x))
    return sparsify(keras.Model(inputs, outputs))


@pytest.mark.parametrize("name", LAYERS)
def test_they_are_effective_on_a_way_from_input_to_output(name):
    graph = ConnectionGraph(net(LAYERS[name]()))
    assert len(graph.kernels) > 2
    assert all(mask.all() for mask in graph.effective())
    ones = [np.ones(kernel.shape) for kernel in graph.kernels]
    cut_off = [0 * x if i == 0 else x for i, x in enumerate(ones)]
    assert not any(mask.any() for mask in graph.effective(cut_off))
    not_needed = [*ones[:-1], 0 * ones[-1]]
    assert not any(mask.any() for mask in graph.effective(not_needed))


@pytest.mark.parametrize("name", CONSERVATIVE)
def test_without_a_stand_in_they_are_effective_where_kept(name, rng):
    graph = ConnectionGraph(net(CONSERVATIVE[name]()))
    assert graph.unknown
    kept = [np.ones(kernel.shape, bool) for kernel in graph.kernels]
    kept[1:-1] = [rng.random(x.shape) < 0.4 for x in kept[1:-1]]
    for mask, expected in zip(graph.effective(kept), kept, strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_pruning_keeps_recurrent_connections():
    inputs = keras.Input((3, 4))
    x = layers.Dense(16, "relu")(layers.LSTM(8)(inputs))
    model = prune(
        keras.Model(inputs, layers.Dense(2)(x)), "magnitude", 0.9, effective=True
    )
    table = summary(model, print_fn=None)
    rows = [row for row in table.rows if "lstm" in row.layer]
    assert len(rows) == 2 and all(row.effective > 0 for row in rows)
    assert table.effective_sparsity == pytest.approx(0.9, abs=0.002)


def test_a_stand_in_that_knows_not_all_kernels_is_left_aside_and_why_is_said():
    model = net(Residual(name="residual"))
    (unknown,) = ConnectionGraph(model).unknown
    assert unknown == (
        "residual (MaskedResidual): its rule knows nothing of the kernels in 'inner'"
    )
    assert unknown in str(summary(model, print_fn=None))
    with pytest.raises(
        ValueError, match=r"'residual' .*. Leave it out with `layers`\.$"
    ):
        prune(strip_masks(model), "synflow", 0.5, verbose=0)


def test_a_stand_in_of_a_layer_with_all_its_kernels_inside_gives_way_to_its_calls(rng):
    class Pair(layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(4), layers.Dense(3)]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    stand_in(Pair)(lambda layer, x: 0 * x)  # it is wrong, and isn't asked

    graphs = [ConnectionGraph(net(Pair())), ConnectionGraph(net(plain_pair))]
    kept = [rng.random(kernel.shape) < 0.4 for kernel in graphs[0].kernels]
    found = [graph.effective(kept) for graph in graphs]
    assert not graphs[0].unknown and any(mask.any() for mask in found[0])
    for mask, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(mask, expected)


def plain_pair(x):
    return layers.Dense(3)(layers.Dense(4)(x))
