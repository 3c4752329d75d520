"""Effective masks of recurrent layers, wrappers and attention.

Twice: against counting paths in a graph of scalar units with each connection removed in
turn, and against what the layers compute.
"""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from unit_graph import UnitGraph, conv
from unit_sequences import (
    attention,
    bidirectional,
    distributed_dense,
    recurrent,
    thin_all,
    time_distributed,
    wire,
)

from scl_keras.connectivity import ConnectionGraph

SEEDS = st.integers(0, 2**32 - 1)


class Net:
    """A random net of sequences under way: pairs of a Keras tensor and its units."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph, self.inputs = UnitGraph(), []
        self.density = self.rng.choice([0.2, 0.3, 0.5])

    def input(self, *shape):
        self.inputs.append(keras.Input(shape))
        return self.inputs[-1], self.graph.input(*shape)

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def flag(self):
        return bool(self.rng.integers(2))

    def recurrent(self, **options):
        kind, units = self.pick("SimpleRNN", "LSTM", "GRU", "RNN"), self.pick(1, 2)
        options = {"go_backwards": self.flag(), **options}
        if kind == "RNN":
            cells = [layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell]
            cells = [self.pick(*cells)(2) for _ in range(self.pick(1, 2))]
            return layers.RNN(cells if len(cells) > 1 else cells[0], **options)
        if kind == "GRU":
            options |= {"reset_after": self.flag(), "use_bias": self.flag()}
        return getattr(layers, kind)(units, **options)

    def bidirectional(self, **options):
        layer = self.recurrent(go_backwards=False, **options)
        mode = self.pick("concat", "sum", "mul", "ave")
        return layers.Bidirectional(layer, merge_mode=mode)

    def attention(self):
        options = {"use_bias": self.flag(), "use_gate": self.flag()}
        window = options["sliding_window"] = self.pick(None, None, 2)
        if self.flag():
            layer = layers.MultiHeadAttention(2, 2, value_dim=1, **options)
        else:
            layer = layers.GroupQueryAttention(2, 2, self.pick(1, 2), **options)
        causal = self.flag()
        return attention(layer, self.rng, self.density, window, causal)

    def sequence_layer(self, end):
        """From a sequence to a sequence."""
        seeded = self.rng, self.density
        kind = self.rng.integers(5)
        if kind == 0:
            return self.apply(distributed_dense(2, *seeded), end)
        if kind == 1:
            joint = bidirectional(self.bidirectional(return_sequences=True), *seeded)
            return self.apply(joint, end)
        if kind == 2:
            return self.apply(self.attention(), *[end] * self.pick(2, 3))
        return self.apply(
            recurrent(self.recurrent(return_sequences=True), *seeded), end
        )

    def apply(self, joint, *ends):
        tensors, units = zip(*ends, strict=True)
        if len(ends) == 1:
            (tensors,), (units,) = tensors, units
        y, out = joint(self.graph, tensors, units)
        if isinstance(out, list):
            return list(zip(keras.tree.flatten(y), out, strict=True))
        return y, out

    def finish(self, *ends):
        """A layer over everything, so that not all is needed."""
        tensors = [layers.Flatten()(x) for x, _ in ends]
        units = np.concatenate([u.ravel() for _, u in ends])
        x = layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0]
        layer = layers.Dense(1)
        x = layer(x)
        thin_all(layer, self.rng, 0.3)
        out = self.graph.units(1)
        wire(self.graph, units, out, layer, "kernel")
        return compare(keras.Model(self.inputs, x), self.graph, [out])


def compare(model, graph, outputs):
    """Asserts that the masks of a model are those of its unit graph."""
    connections = ConnectionGraph(model)
    assert connections.unknown == ()
    got = {
        (kernel.layer.path, kernel.name, tuple(map(int, index)))
        for kernel, mask in zip(
            connections.kernels, connections.effective(), strict=True
        )
        for index in np.argwhere(mask)
    }
    assert got == graph.effective(outputs)
    return got


@settings(max_examples=40)
@given(SEEDS)
def test_random_nets_of_sequences(seed):
    net = Net(seed)
    end = net.input(net.pick(1, 2, 3), 2)
    for _ in range(net.pick(1, 2)):
        end = net.sequence_layer(end)
    if net.flag():
        joint = recurrent(net.recurrent(return_sequences=False), net.rng, net.density)
        end = net.apply(joint, end)
    net.finish(end)


OF_STATES = {
    "SimpleRNN": lambda: layers.SimpleRNN(2, return_state=True),
    "LSTM": lambda: layers.LSTM(2, return_state=True, return_sequences=True),
    "GRU": lambda: layers.GRU(2, return_state=True, go_backwards=True),
    "RNN": lambda: layers.RNN(
        [layers.LSTMCell(2), layers.GRUCell(2)], return_state=True
    ),
    "Bidirectional": lambda: layers.Bidirectional(
        layers.LSTM(2, return_state=True, return_sequences=True), merge_mode=None
    ),
    "Bidirectional, merged": lambda: layers.Bidirectional(
        layers.GRU(2, return_state=True, go_backwards=True),
        backward_layer=layers.GRU(2, return_state=True),
    ),
}


@pytest.mark.parametrize("name", OF_STATES)
def test_states_are_outputs(name):
    found = set()
    for seed in range(3):
        net = Net(seed)
        layer = OF_STATES[name]()
        kind = bidirectional if name.startswith("Bi") else recurrent
        ends = net.apply(kind(layer, net.rng, 0.4), net.input(3, 2))
        chosen = net.rng.permutation(len(ends))[: net.pick(1, 2)]
        found |= net.finish(*(ends[i] for i in chosen))
    assert len(found) > 10


def test_attention_of_three_tensors_and_of_several_axes():
    found = set()
    for seed in range(3):
        net = Net(seed)
        query, value, key = net.input(2, 3), net.input(3, 2), net.input(3, 4)
        layer = layers.MultiHeadAttention(2, 2, value_dim=3, output_shape=2)
        found |= net.finish(
            net.apply(attention(layer, net.rng, 0.4), query, value, key)
        )
    assert len(found) > 10


def test_time_steps_of_images_of_sequences_and_of_models():
    found = set()
    for seed in range(3):
        net = Net(seed)
        pixels = conv(2, 2, 2, 1, 1, "same", 1, net.rng, 0.2)
        found |= net.finish(net.apply(named(pixels), net.input(2, 3, 3, 1)))
        net = Net(seed)
        memory = recurrent(layers.LSTM(2), net.rng, 0.4)
        found |= net.finish(net.apply(time_distributed(memory), net.input(2, 3, 2)))
        net = Net(seed)
        inner = layers.Bidirectional(layers.GRU(2, return_sequences=True))
        inner = bidirectional(inner, net.rng, 0.4)
        last = recurrent(layers.SimpleRNN(2), net.rng, 0.4)
        sequence = [keras.Input((3, 2)), inner.layer, last.layer]
        model = recurrent(keras.Sequential(sequence), net.rng, 0.4)
        model.connect = lambda graph, x, a=inner, b=last: b.connect(
            graph, a.connect(graph, x)
        )
        found |= net.finish(net.apply(time_distributed(model), net.input(2, 3, 2)))
    assert len(found) > 50


def named(joint):
    """The time steps of a joint of `unit_graph`, its connections named by path."""

    def connect(graph, x):
        first = len(graph.edges)
        units = joint.connect(graph, x)
        for i, (source, target, c) in enumerate(graph.edges[first:], first):
            if c is not None:
                c = (joint.layer.path, *c[1:])
                graph.edges[i] = source, target, c
        return units

    inner = recurrent(joint.layer, joint.rng, joint.density)
    inner.connect = connect
    return time_distributed(inner)
