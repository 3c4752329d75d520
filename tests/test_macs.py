import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from maskable_layers import Bottleneck

from scl_keras import MaskedKernel, MaskedLayer, sparsify
from scl_keras.graph import output_shapes
from scl_keras.kernels import prunable_kernels
from scl_keras.macs import connection_positions, kernel_positions, record_positions


def positions(model):
    count = connection_positions(model)
    return {k.layer.name: count(k) for k in prunable_kernels(model)}


def macs_by_brute_force(size, kernel, stride, dilation, padding, channels, filters):
    """Walks a convolution's windows and counts one by one, padding's zeros too."""
    span = (kernel - 1) * dilation + 1
    if padding == "same":
        windows = len(range(0, size, stride))
    else:
        windows = len([i for i in range(0, size, stride) if i + span <= size])
    return windows**2 * kernel**2 * channels * filters


@settings(max_examples=25)
@given(
    size=st.integers(5, 11),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    groups=st.sampled_from([1, 2]),
)
def test_convolution_macs_equal_a_count_of_windows(
    size, kernel, stride, dilation, padding, groups
):
    if dilation > 1:
        stride = 1
    conv = layers.Conv2D(
        6, kernel, stride, padding, dilation_rate=dilation, groups=groups, name="c"
    )
    model = keras.Sequential([keras.Input((size, size, 4)), conv])
    expected = macs_by_brute_force(
        size, kernel, stride, dilation, padding, 4 // groups, 6
    )
    assert positions(model)["c"] * np.prod(conv.kernel.shape) == expected


def test_dense_positions_are_the_vectors_it_is_applied_to():
    inputs = keras.Input((5, 7, 3))
    x = layers.Dense(4, name="map")(inputs)
    x = layers.Dense(2, name="vector")(layers.GlobalAveragePooling2D()(x))
    assert positions(keras.Model(inputs, x)) == {"map": 35, "vector": 1}


def test_channels_first_counts_the_pixels_too():
    conv = layers.Conv2D(4, 3, data_format="channels_first", name="c")
    model = keras.Sequential([keras.Input((2, 8, 9)), conv])
    assert positions(model) == {"c": 6 * 7}


def test_calls_of_a_shared_layer_add_up():
    shared = layers.Conv2D(3, 3, name="shared")
    a, b = keras.Input((8, 8, 2)), keras.Input((5, 6, 2))
    pooled = [layers.GlobalMaxPooling2D()(shared(x)) for x in (a, b)]
    model = keras.Model([a, b], layers.add(pooled))
    assert positions(model) == {"shared": 36 + 12}


@pytest.mark.parametrize("size", [8, None])
def test_nested_models_count_by_the_inputs_of_each_call(size):
    conv = layers.Conv2D(3, 3, name="c")
    inner = keras.Sequential([keras.Input((size, size, 2)), conv])
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, layers.add([inner(inputs), inner(inputs)]))
    assert positions(model) == {"c": 72}


def test_a_nested_model_of_unknown_size_counts_two_sizes():
    inner_inputs = {
        "a": keras.Input((None, None, 1), name="a"),
        "b": keras.Input((None, None, 1), name="b"),
    }
    first = layers.Conv2D(2, 2, name="first")(inner_inputs["a"])
    second = layers.Conv2D(2, 1, name="second")(inner_inputs["b"])
    inner = keras.Model(inner_inputs, [first, second])
    a, b = keras.Input((4, 4, 1)), keras.Input((6, 7, 1))
    model = keras.Model([a, b], inner({"b": b, "a": a}))
    assert positions(model) == {"first": 9, "second": 42}


def test_unknown_sizes_are_none():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="c")(inputs))
    assert positions(model) == {"c": None}
    sequence = keras.Input((None, 3))
    model = keras.Model(sequence, layers.Dense(2, name="d")(sequence))
    assert positions(model) == {"d": None}
    assert kernel_positions((3, 2), (-1,), None) is None


def test_a_layer_that_no_output_needs_does_not_count():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, name="h")(inputs)
    layers.Dense(5, name="unused")(hidden)
    assert positions(keras.Model(inputs, hidden)) == {"h": 1}


def test_kernels_inside_of_a_layer_have_no_known_size():
    model = keras.Sequential([keras.Input((4,)), Bottleneck(8, 3, name="b")])
    sparse = sparsify(model)
    count = connection_positions(sparse)
    found = {k.name: count(k) for k in prunable_kernels(sparse)}
    assert found == {"squeeze": None, "expand": 1}


def test_subclassed_models_count_each_layer_once():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(2, 3, name="conv")
            self.dense = layers.Dense(3, name="dense")

        def call(self, x):
            return self.dense(keras.ops.mean(self.conv(x), axis=(1, 2)))

    model = Net()
    model(np.zeros((1, 6, 6, 1), "float32"))
    assert positions(model) == {"conv": 16, "dense": 1}


def test_record_positions_writes_them_into_the_masks():
    model = sparsify(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                layers.Conv2D(2, 3),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
    )
    record_positions(model)
    masks = [k.mask.positions for k in prunable_kernels(model)]
    assert masks == [16, 1]


def test_counting_makes_no_new_calls_of_the_users_layers():
    inputs = keras.Input((4,))
    dense = layers.Dense(3)
    model = keras.Model(inputs, dense(inputs))
    model.compile("sgd", "mse")
    before = len(dense._inbound_nodes), model.get_weights()
    assert (dense, (None, 3)) in output_shapes(model)
    assert len(dense._inbound_nodes) == before[0]
    for new, old in zip(model.get_weights(), before[1], strict=True):
        np.testing.assert_array_equal(new, old)
    assert model.compiled


@keras.saving.register_keras_serializable("test_macs")
class MaskedDepthwise(MaskedLayer, layers.DepthwiseConv2D):
    kernel = MaskedKernel(feature_axes=(-2, -1))


def test_depthwise_kernels_have_two_feature_axes():
    conv = MaskedDepthwise(3, depth_multiplier=2, name="c")
    model = keras.Sequential([keras.Input((6, 6, 4)), conv])
    assert positions(model) == {"c": 16}
    assert prunable_kernels(model)[0].features == 8
