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

from scl_keras import compact, sparsify
from scl_keras.connectivity import ConnectionGraph

SEEDS = st.integers(0, 2**32 - 1)


class Net:
    """A random net of sequences under way: pairs of a Keras tensor and its units."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph, self.inputs = UnitGraph(), []
        self.density = self.rng.choice([0.3, 0.5, 0.7])

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
        thin_all(layer, self.rng, 0.5)
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


@settings(max_examples=15)
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
        ends = net.apply(kind(layer, net.rng, 0.6), net.input(3, 2))
        chosen = net.rng.permutation(len(ends))[: net.pick(1, 2)]
        found |= net.finish(*(ends[i] for i in chosen))
    assert len(found) > 5


def test_attention_of_three_tensors():
    found = set()
    for seed in range(3):
        net = Net(seed)
        query, value, key = net.input(2, 3), net.input(3, 2), net.input(3, 4)
        layer = layers.MultiHeadAttention(2, 2, value_dim=3, output_shape=2)
        found |= net.finish(
            net.apply(attention(layer, net.rng, 0.6), query, value, key)
        )
    assert len(found) > 20


def test_time_steps_of_images_of_sequences_and_of_models():
    found = set()
    for seed in range(2):
        net = Net(seed)
        pixels = conv(2, 2, 2, 1, 1, "same", 1, net.rng, 0.2)
        found |= net.finish(net.apply(named(pixels), net.input(2, 3, 3, 1)))
        net = Net(seed)
        memory = recurrent(layers.LSTM(2), net.rng, 0.6)
        found |= net.finish(net.apply(time_distributed(memory), net.input(2, 3, 2)))
        net = Net(seed)
        inner = layers.Bidirectional(layers.GRU(2, return_sequences=True))
        inner = bidirectional(inner, net.rng, 0.6)
        last = recurrent(layers.SimpleRNN(2), net.rng, 0.6)
        sequence = [keras.Input((3, 2)), inner.layer, last.layer]
        model = recurrent(keras.Sequential(sequence), net.rng, 0.6)
        model.connect = lambda graph, x, a=inner, b=last: b.connect(
            graph, a.connect(graph, x)
        )
        found |= net.finish(net.apply(time_distributed(model), net.input(2, 3, 2)))
    assert len(found) > 30


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


COMPUTED = {
    "SimpleRNN": lambda: layers.SimpleRNN(2),
    "LSTM": lambda: layers.LSTM(2),
    "LSTM backwards": lambda: layers.LSTM(2, go_backwards=True, return_sequences=True),
    "GRU": lambda: layers.GRU(2),
    "GRU, reset before": lambda: layers.GRU(2, reset_after=False),
    "RNN": lambda: layers.RNN([layers.GRUCell(2), layers.LSTMCell(1)]),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(2, return_sequences=True)),
    "Bidirectional, mul": lambda: layers.Bidirectional(layers.LSTM(2), "mul"),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3, "tanh")),
    "MultiHeadAttention": lambda: layers.MultiHeadAttention(2, 2, use_gate=True),
    "GroupQueryAttention": lambda: layers.GroupQueryAttention(2, 4, 2),
    "causal": lambda: layers.MultiHeadAttention(2, 2, sliding_window=2),
}


def computed(name, rng):
    """A model with such a layer in it, and its graph."""
    inputs = keras.Input((3, 3))
    x = layers.Dense(4, "tanh")(inputs)
    layer = COMPUTED[name]()
    if isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention):
        x = layer(x, x, use_causal_mask=name == "causal")
    else:
        x = layer(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    thin_all(model, rng, 0.6)
    graph = ConnectionGraph(model)
    assert graph.unknown == ()
    return model, graph, rng.normal(size=(4, 3, 3))


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", COMPUTED)
def test_without_dead_connections_the_same_is_computed(name, rng, float64):
    """Without biases, what no input reaches is zero."""
    model, graph, x = computed(name, rng)
    for w in model.weights:
        if "bias" in w.name:
            w.assign(np.zeros(w.shape))
    first = model.layers[1].kernel
    first.assign(first * [1, 0, 1, 1])
    before, effective, dead = model(x), graph.effective(), 0
    for kernel, mask in zip(graph.kernels, effective, strict=True):
        dead += np.sum(kernel.kept() & ~mask)
        variable = getattr(kernel.layer, kernel.name)
        variable.assign(variable * mask)
    assert dead > 0 and any(mask.any() for mask in effective)
    np.testing.assert_allclose(model(x), before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", COMPUTED)
def test_each_effective_connection_matters(name, rng, float64):
    model, graph, x = computed(name, rng)
    for kernel in graph.kernels:
        if kernel.layer.name in ("key", "value"):  # equal ones: nothing to choose
            variable = getattr(kernel.layer, kernel.name)
            variable.assign(rng.normal(size=kernel.shape))
    before = model.predict_on_batch(x)
    pairs = list(zip(graph.kernels, graph.effective(), strict=True))
    assert all(mask.any() for _, mask in pairs)
    for kernel, mask in pairs:
        variable = getattr(kernel.layer, kernel.name)
        values = variable.numpy()
        for index in map(tuple, np.argwhere(mask)):
            changed = values.copy()
            changed[index] *= 1.5
            variable.assign(changed)
            difference = np.abs(model.predict_on_batch(x) - before)
            assert np.any(difference > 1e-9), (kernel.label, index)
        variable.assign(values)


WRAPPED = ["LSTM", "GRU", "Bidirectional, mul", "TimeDistributed", "causal"]


@pytest.mark.parametrize("name", WRAPPED)
def test_compaction_keeps_them_whole_and_computes_the_same(name, rng):
    model, _, x = computed(name, rng)
    first, middle, last = model.layers[1], model.layers[2], model.layers[-1]
    first.kernel.assign(first.kernel * [1, 0, 1, 1])  # a unit is a constant
    for w in middle.weights:
        if w.name == "kernel":  # what comes of another is not read
            rows = np.arange(w.shape[0]) != 2
            w.assign(w * np.reshape(rows, (-1, *[1] * (w.ndim - 1))))
    read = np.arange(last.kernel.shape[0]) >= min(1, last.kernel.shape[0] - 2)
    last.kernel.assign(last.kernel * read[:, None])
    small = compact(model)
    shapes = [w.shape for w in small.get_layer(middle.name).weights]
    assert shapes == [w.shape for w in middle.weights]
    assert small.layers[1].units == 4
    scale = np.max(np.abs(model(x)))
    np.testing.assert_allclose(small(x) / scale, model(x) / scale, atol=1e-5)


def test_compaction_removes_units_around_and_drops_terms_that_are_zero(rng):
    inputs = keras.Input((3, 4))
    x = layers.Dense(6, "tanh", name="a")(inputs)
    y = layers.LSTM(3, return_sequences=True, name="b")(layers.Dense(2, name="c")(x))
    zero = layers.GRU(3, return_sequences=True, name="zero")(x)
    y = layers.Dense(5, "relu", name="d")(layers.Add()([y, zero]))
    model = keras.Model(inputs, layers.Dense(2, name="e")(layers.Flatten()(y)))
    thin_all(model, rng, 0.8)
    for w in model.get_layer("zero").weights:
        w.assign(np.zeros(w.shape))
    c, d = model.get_layer("c").kernel, model.get_layer("d").kernel
    c.assign(c * np.array([1, 0, 1, 0, 1, 1])[:, None])
    d.assign(d * [1, 1, 0, 0, 1])
    small = compact(model)
    units = {x.name: x.units for x in small.layers if isinstance(x, layers.Dense)}
    assert units == {"a": 4, "c": 2, "d": 3, "e": 2}
    assert "zero" not in [x.name for x in small.layers]
    x = rng.normal(size=(4, 3, 4))
    np.testing.assert_allclose(small(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["Bidirectional", "GroupQueryAttention", "RNN"])
def test_masks_are_read_alike(name, rng):
    model, graph, _ = computed(name, rng)
    kept = [kernel.kept() for kernel in graph.kernels]
    sparse = ConnectionGraph(sparsify(model, copy=True))
    assert sparse.unknown == ()
    for kernel, mask in zip(sparse.kernels, kept, strict=True):
        kernel.mask.assign(mask)
    for a, b in zip(graph.effective(), sparse.effective(), strict=True):
        np.testing.assert_array_equal(a, b)
