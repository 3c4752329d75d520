"""Effective masks against counting paths with each connection removed in turn."""

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import layers
from unit_graph import (
    Joint,
    UnitGraph,
    all_of,
    conv,
    conv_transpose,
    dense,
    depthwise,
    global_pooling,
    merged,
    moved,
    padded,
    pooling,
    separable,
    thin,
)

from scl_keras import sparsify
from scl_keras.connectivity import ConnectionGraph

SEEDS = st.integers(0, 2**32 - 1)


def compare(model, graph, outputs):
    """Asserts that the masks of a model are those of its unit graph."""
    connections = ConnectionGraph(model)
    assert connections.unknown == ()
    expected = graph.effective(outputs)
    got = {
        (kernel.layer.name, kernel.name, tuple(map(int, index)))
        for kernel, mask in zip(
            connections.kernels, connections.effective(), strict=True
        )
        for index in np.argwhere(mask)
    }
    known = {(kernel.layer.name, kernel.name) for kernel in connections.kernels}
    assert got == {c for c in expected if c[:2] in known}
    return got


class Net:
    """A random net under way: named pairs of a Keras tensor and its units."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph, self.inputs, self.ends = UnitGraph(), [], []
        self.density = self.rng.choice([0.2, 0.3, 0.5])

    def input(self, *shape):
        tensor = keras.Input(shape)
        self.inputs.append(tensor)
        return tensor, self.graph.input(*shape)

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def apply(self, joint, *ends):
        tensors, units = zip(*ends, strict=True)
        if len(ends) == 1:
            (tensors,), (units,) = tensors, units
        return joint(self.graph, tensors, units)

    def convolution(self, end):
        rank = end[1].ndim - 1
        size, channels = min(end[1].shape[:-1]), end[1].shape[-1]
        kernel = self.pick(1, 2, 3) if size >= 3 else 1
        padding = self.pick("same", "valid", *["causal"] * (rank == 1))
        stride = self.pick(1, 1, 2, 3)
        dilated = stride == 1 and (kernel - 1) * 2 < size and self.pick(True, False)
        kind = self.pick(
            "conv", "conv", "groups", "transpose", "depthwise", "separable"
        )
        seeded = {"rng": self.rng, "density": self.density}
        if kind == "transpose" and size * stride <= 6:
            padding = "same" if padding == "causal" else padding
            return conv_transpose(rank, 2, kernel, stride, padding, **seeded)
        if kind == "depthwise":
            padding = "same" if padding == "causal" else padding
            return depthwise(rank, kernel, stride, padding, self.pick(1, 2), **seeded)
        if kind == "separable":
            padding = "same" if padding == "causal" else padding
            return separable(rank, 2, kernel, padding, **seeded)
        groups = channels if kind == "groups" and channels in (2, 3) else 1
        filters = groups * self.pick(1, 2) if groups > 1 else self.pick(1, 2, 3)
        dilation = 2 if dilated else 1
        return conv(rank, filters, kernel, stride, dilation, padding, groups, **seeded)

    def image_layer(self, end):
        rank = end[1].ndim - 1
        size = min(end[1].shape[:-1])
        kind = self.rng.integers(10)
        padding = self.pick("same", "valid")
        if kind == 0 and size >= 2:
            return pooling(
                self.pick("Max", "Average"), rank, 2, self.pick(1, 2), padding
            )
        if kind == 1 and size >= 3:
            crop = getattr(layers, f"Cropping{rank}D")(1)
            return moved(crop, lambda x: x[(slice(1, -1),) * rank])
        if kind == 2 and size <= 4:
            return padded(rank, *self.pick((1, 0), (1, 2)))
        if kind == 3 and size <= 3:
            repeat = getattr(layers, f"UpSampling{rank}D")(2)
            return moved(repeat, lambda x: twice(x, rank))
        if kind == 4:
            order = (2, 1, 3)[:rank] if rank == 2 else (1,)
            order = (*order, rank + 1)
            axes = [a - 1 for a in order]
            return moved(layers.Permute(order), lambda x: np.transpose(x, axes))
        if kind == 5:
            return self.normalization(end)
        if kind == 6:
            return dense(self.pick(1, 2), self.rng, self.density)
        return self.convolution(end)

    def normalization(self, end):
        everything = range(end[1].ndim)
        return self.pick(
            moved(layers.BatchNormalization(), lambda x: x),
            moved(layers.ReLU(), lambda x: x),
            moved(layers.Dropout(0.5), lambda x: x),
            moved(layers.Activation("tanh"), lambda x: x),
            all_of(layers.LayerNormalization(), [-1]),
            all_of(layers.Softmax(), [-1]),
            all_of(layers.GroupNormalization(1), everything),
            all_of(layers.GroupNormalization(-1), everything[:-1]),
        )

    def normalization_of_vector(self):
        return self.pick(
            moved(layers.BatchNormalization(), lambda x: x),
            moved(layers.LeakyReLU(), lambda x: x),
            all_of(layers.LayerNormalization(), [-1]),
        )

    def merge(self, ends):
        """Merges two tensors of like shapes, if there are such."""
        a = self.pick(*ends)
        b = self.pick(*[e for e in ends if e[1].shape == a[1].shape])
        kind = self.pick("Add", "Multiply", "Subtract", "Maximum", "Average", "Concat")
        if kind == "Concat":
            join = Joint(layers.Concatenate(), lambda g, x: np.concatenate(x, -1), None)
            return self.apply(join, a, b)
        return self.apply(merged(getattr(layers, kind)()), a, b)

    def to_vector(self, end):
        rank = end[1].ndim - 1
        if rank == 0:
            return end
        return self.apply(
            self.pick(
                moved(layers.Flatten(), np.ravel),
                moved(layers.Reshape((-1,)), np.ravel),
                global_pooling(self.pick("Max", "Average"), rank),
            ),
            end,
        )

    def check(self, *outputs):
        tensors, units = zip(*outputs, strict=True)
        model = keras.Model(self.inputs, list(tensors))
        return compare(model, self.graph, units)


def twice(x, rank):
    for axis in range(rank):
        x = np.repeat(x, 2, axis)
    return x


@settings(max_examples=100)
@given(SEEDS)
@example(12097)  # a separable convolution that is used twice
def test_random_nets_of_images(seed):
    net = Net(seed)
    rank = net.pick(1, 2)
    ends = [net.input(*[net.pick(3, 4, 5)] * rank, net.pick(1, 2, 3))]
    if net.pick(True, False):
        ends.append(net.input(*ends[0][1].shape))
    for _ in range(net.rng.integers(1, 6)):
        end = net.pick(*ends[-3:])
        joint = net.image_layer(end)
        ends.append(net.apply(joint, end))
        if net.pick(False, False, True) and ends[-1][1].shape == end[1].shape:
            ends.append(net.apply(joint, ends[-1]))  # the same layer again
        if net.pick(True, False):
            ends.append(net.merge(ends))
    last = [net.to_vector(end) for end in ends[-2:]]
    last = [net.apply(dense(2, net.rng, net.density), end) for end in last]
    net.check(*last[: net.pick(1, 2)], *([ends[-1]] if net.pick(True, False) else []))


@settings(max_examples=100)
@given(SEEDS)
def test_random_nets_of_vectors(seed):
    net = Net(seed)
    ends = [net.input(net.pick(2, 3, 4)) for _ in range(net.pick(1, 2, 3))]
    joints = []
    for _ in range(net.rng.integers(2, 9)):
        end = net.pick(*ends[-4:])
        joint = dense(net.pick(1, 2, 3, 4), net.rng, net.density)
        fitting = [j for j, size in joints if size == end[1].shape]
        if fitting and net.pick(True, False):
            joint = net.pick(*fitting)
        joints.append((joint, end[1].shape))
        ends.append(net.apply(joint, end))
        if net.pick(True, False):
            ends.append(net.merge(ends))
        if net.pick(False, False, True):
            ends.append(net.apply(net.normalization_of_vector(), ends[-1]))
    net.check(*ends[-net.pick(1, 2, 3) :])


def einsum(rng):
    def connect(graph, x):  # "abc,cd->abd", with the axes of a sample alone
        out = graph.units(*x.shape[:-1], 2)
        for place in np.ndindex(x.shape[:-1]):
            for i, j in np.ndindex(x.shape[-1], 2):
                if connection := joint.kept(i, j):
                    graph.join(x[place][i], out[place][j], connection)
        return out

    layer = layers.EinsumDense("abc,cd->abd", (4, 2))
    joint = Joint(layer, connect, rng=rng, density=0.4)
    return joint


SINGLE = {
    "Conv3D": lambda r: (conv(3, 2, 2, 1, 1, "same", 1, r, 0.2), (3, 2, 3, 2)),
    "Conv3D in groups": lambda r: (
        conv(3, 2, 2, 2, 1, "same", 2, r, 0.3),
        (3, 2, 3, 2),
    ),
    "Conv3DTranspose": lambda r: (
        conv_transpose(3, 2, 2, 2, "same", r, 0.2),
        (2, 2, 2, 2),
    ),
    "Conv1D, causal": lambda r: (conv(1, 2, 3, 1, 2, "causal", 1, r, 0.2), (5, 2)),
    "SeparableConv2D": lambda r: (separable(2, 3, 3, "same", r, 0.2), (4, 4, 2)),
    "MaxPooling3D": lambda r: (pooling("Max", 3, 2, 2, "same"), (3, 3, 2, 2)),
    "EinsumDense": lambda r: (einsum(r), (4, 3)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_layers_between_two_dense_ones(name):
    found = set()
    for seed in range(3):
        net = Net(seed)
        joint, shape = SINGLE[name](net.rng)
        end = net.apply(dense(shape[-1], net.rng, 0.6), net.input(*shape))
        end = net.to_vector(net.apply(joint, end))
        found |= net.check(net.apply(dense(2, net.rng, 0.6), end))
    assert len(found) > 10


def test_masked_layers_are_read_by_their_masks(rng):
    net = Net(3)
    end = net.apply(conv(2, 3, 3, 2, 1, "same", 1, rng, 0.2), net.input(4, 4, 2))
    end = net.apply(moved(layers.Flatten(), np.ravel), end)
    outputs, units = net.apply(dense(2, rng, 0.2), end)
    model = sparsify(keras.Model(net.inputs, outputs))
    for layer, stock in zip(
        model.layers, keras.Model(net.inputs, outputs).layers, strict=True
    ):
        if hasattr(layer, "kernel_mask"):
            layer.kernel_mask.assign(stock.kernel.numpy() != 0)
            layer.kernel.assign(np.ones(layer.kernel.shape))
    masked = compare(model, net.graph, [units])
    assert masked == net.check((outputs, units))
    assert masked


@settings(max_examples=10)
@given(SEEDS)
def test_nested_models_used_twice(seed):
    net = Net(seed)
    rng = net.rng
    joints = [dense(3, rng, 0.4), moved(layers.ReLU(), lambda x: x), dense(2, rng, 0.4)]
    a, b = net.input(2), net.input(2)
    inner = keras.Sequential([keras.Input((2,)), *(joint.layer for joint in joints)])
    for joint in joints[::2]:
        thin(joint.layer, "kernel", rng, 0.4)

    def connect(graph, units):
        for joint in joints:
            units = joint.connect(graph, units)
        return units

    nested = Joint(inner, connect, None)
    a, b = net.apply(nested, a), net.apply(nested, net.apply(nested, b))
    end = net.apply(merged(layers.Add()), a, b)
    net.check(net.apply(dense(2, rng, 0.5), end))


def test_an_embedding_has_an_input_for_each_token(rng):
    graph = UnitGraph()
    tokens = graph.input(3, 4)  # three positions, four tokens
    inputs = keras.Input((3,), dtype="int32")
    layer = layers.Embedding(4, 2)
    x = layer(inputs)
    thin(layer, "embeddings", rng, 0.5)
    joint = Joint(layer, None, "embeddings")
    units = graph.units(3, 2)
    for place, v, d in np.ndindex(3, 4, 2):
        if connection := joint.kept(v, d):
            graph.join(tokens[place, v], units[place, d], connection)
    x, units = layers.Flatten()(x), units.ravel()
    last = dense(2, rng, 0.2)
    outputs, units = last(graph, x, units)
    compare(keras.Model(inputs, outputs), graph, [units])
