import keras
import numpy as np
from keras import layers
from maskable_layers import Bottleneck

from scl_keras import (
    EffectiveSparsityLogger,
    MaskedDense,
    MaskLogger,
    effective_masks,
    sparsify,
    strip_masks,
    summary,
    unmasked_layers,
)
from scl_keras.graph.kernels import Kernel, prunable_kernels


def test_kernels_are_found_masked_or_not_and_each_once():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="in")], name="net"
    )
    x = inner(shared(shared(inputs)))
    x = layers.Bidirectional(layers.SimpleRNN(4))(layers.Reshape((1, 4))(x))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    stock = [(k.layer.name, k.name, k.mask) for k in prunable_kernels(model)]
    cell = ("simple_rnn_cell", "recurrent_kernel", None)
    assert stock == [
        ("shared", "kernel", None),
        ("in", "kernel", None),
        *[("simple_rnn_cell", "kernel", None), cell] * 2,
        ("last", "kernel", None),
    ]
    sparse = prunable_kernels(sparsify(model, "in", copy=True))
    assert [k.layer.name for k in sparse] == [name for name, _, _ in stock]
    assert [k.layer.name for k in sparse if k.mask is not None] == ["in"]
    assert sparse[1].mask is sparse[1].layer.kernel_mask


def test_kept_reads_masks_and_in_stock_layers_zeros(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6)])
    sparse = sparsify(model, copy=True)
    kept = rng.random((4, 6)) > 0.5
    kept[:, 2] = False
    sparse.layers[-1].kernel_mask.assign(kept)
    for net in (sparse, strip_masks(sparse, copy=True)):
        (kernel,) = prunable_kernels(net)
        np.testing.assert_array_equal(kernel.kept(), kept)
        assert kernel.dead_features() == np.count_nonzero(~kept.any(axis=0)) >= 1
        assert (kernel.shape, kernel.features) == ((4, 6), 6)


def test_dead_features_of_a_kernel_with_two_feature_axes():
    layer = layers.DepthwiseConv2D(2, depth_multiplier=3)
    layer.build((None, 4, 4, 2))
    weights = np.ones((2, 2, 2, 3), "float32")
    weights[:, :, 1, 2] = weights[:, :, 0, 0] = 0
    weights[0, 0, 0, 1] = 0
    layer.kernel.assign(weights)
    kernel = Kernel(layer, "kernel", (-2, -1), None)
    assert (kernel.features, kernel.dead_features()) == (6, 2)


def test_labels_tell_layers_of_one_name_apart_and_kernels_of_one_layer():
    def net(name):
        return keras.Sequential(
            [keras.Input((4,)), layers.Dense(4, name="d")], name=name
        )

    model = keras.Sequential([keras.Input((4,)), net("a"), net("b"), Bottleneck(3, 2)])
    labels = [k.label for k in prunable_kernels(model)]
    assert len(set(labels)) == len(labels) == 4
    assert labels[0].endswith("d/kernel")
    assert labels[-1].endswith("/expand")


def branches(*names):
    """A model of sub-models with layers of equal names."""
    inputs = keras.Input((4,))
    ends = []
    for name in names:
        a = keras.Input((4,))
        b = layers.Dense(3, name="d")(layers.Dense(8, name="h")(a))
        ends.append(keras.Model(a, b, name=name)(inputs))
    return keras.Model(inputs, layers.Concatenate()(ends), name="top")


def test_labels_tell_sub_models_with_layers_of_one_name_apart():
    labels = [k.label for k in prunable_kernels(branches("A", "B"))]
    assert labels == ["A/h/kernel", "A/d/kernel", "B/h/kernel", "B/d/kernel"]
    assert [k.label for k in prunable_kernels(branches("A"))] == [
        "h/kernel",
        "d/kernel",
    ]
    nested = branches("A", "B")
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="h")(layers.Dense(4, name="own")(nested(inputs)[:, :4]))
    model = keras.Model(inputs, x)
    assert [k.label for k in prunable_kernels(model)] == [
        *("top/A/h/kernel", "top/A/d/kernel", "top/B/h/kernel", "top/B/d/kernel"),
        *("own/kernel", "h/kernel"),
    ]


class Pair(layers.Layer):
    """Two layers with one name, in one layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pair = [MaskedDense(4, name="d"), MaskedDense(4, name="d")]
        self.other = MaskedDense(4, name="d_1")

    def build(self, input_shape):
        for layer in (*self.pair, self.other):
            layer.build(input_shape)

    def call(self, x):
        return self.pair[0](x) + self.pair[1](x) + self.other(x)


def test_labels_tell_layers_with_equal_paths_in_one_model_apart():
    model = keras.Sequential([keras.Input((4,)), Pair(name="p")])
    labels = [k.label for k in prunable_kernels(model)]
    first, second, third = (label.removesuffix("/kernel") for label in labels)
    assert (second, third) == (f"{first}_2", f"{first}_1")


def test_all_who_name_kernels_tell_them_apart(rng):
    model = sparsify(branches("A", "B"))
    model.compile("sgd", "mse")
    kernels = prunable_kernels(model)
    for number, kernel in enumerate(kernels):
        kept = np.ones(kernel.shape)
        kept[:number, 0] = 0  # so few that no unit is dead
        kernel.mask.assign(kept)
    labels = ["A/h/kernel", "A/d/kernel", "B/h/kernel", "B/d/kernel"]
    masks = effective_masks(model)
    assert list(masks) == labels
    assert [mask.size - mask.sum() for mask in masks.values()] == [0, 1, 2, 3]
    table = summary(model, None)
    assert [row.layer for row in table.rows] == labels
    assert all(label in str(table) for label in labels)
    x, y = rng.normal(size=(4, 4)), rng.normal(size=(4, 6))
    callbacks = [MaskLogger(), EffectiveSparsityLogger()]
    history = model.fit(x, y, verbose=0, callbacks=callbacks).history
    for prefix in ("density", "effective_density"):
        logged = [history[f"{prefix}/{label}"][0] for label in labels]
        expected = [1 - i / masks[x].size for i, x in enumerate(labels)]
        np.testing.assert_allclose(logged, expected)


def test_unbuilt_layers_have_no_kernels():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

    assert prunable_kernels(Net()) == []


def test_kernels_in_custom_layers_count_masked_or_not():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.stock, self.masked = layers.Dense(3), MaskedDense(3)

        def build(self, input_shape):
            self.stock.build(input_shape)
            self.masked.build(input_shape)

        def call(self, x):
            return self.stock(x) + self.masked(x)

    block = Block()
    model = keras.Sequential([keras.Input((4,)), block])
    assert {k.layer for k in prunable_kernels(model)} == {block.masked, block.stock}
    assert unmasked_layers(model) == [block.stock]
