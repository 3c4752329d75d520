import keras
import numpy as np
from keras import layers
from maskable_layers import Bottleneck

from scl_keras import MaskedDense, sparsify, strip_masks, unmasked_layers
from scl_keras.kernels import Kernel, prunable_kernels


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
    sparse = prunable_kernels(sparsify(model, "in"))
    assert [k.layer.name for k in sparse] == [name for name, _, _ in stock]
    assert [k.layer.name for k in sparse if k.mask is not None] == ["in"]
    assert sparse[1].mask is sparse[1].layer.kernel_mask


def test_kept_reads_masks_and_in_stock_layers_zeros(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6)])
    sparse = sparsify(model)
    kept = rng.random((4, 6)) > 0.5
    kept[:, 2] = False
    sparse.layers[-1].kernel_mask.assign(kept)
    for net in (sparse, strip_masks(sparse)):
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


def test_unbuilt_layers_have_no_kernels():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

    assert prunable_kernels(Net()) == []


def test_kernels_out_of_reach_do_not_count_unless_they_are_masked():
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
    assert [k.layer for k in prunable_kernels(model)] == [block.masked]
    assert unmasked_layers(model) == [block]
