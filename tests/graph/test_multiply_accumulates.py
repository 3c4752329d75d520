import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from maskable_layers import Bottleneck

from scl_keras import sparsify
from scl_keras.graph.calls import layer_calls
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import connection_positions, record_positions


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


def test_a_layer_that_no_output_needs_does_not_count():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, name="h")(inputs)
    layers.Dense(5, name="unused")(hidden)
    assert positions(keras.Model(inputs, hidden)) == {"h": 1}


def test_kernels_inside_of_a_layer_have_no_known_size():
    model = keras.Sequential([keras.Input((4,)), Bottleneck(8, 3, name="b")])
    sparse = sparsify(model, copy=True)
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
    assert (dense, (None, 3)) in [(c.layer, c.output_shape) for c in layer_calls(model)]
    assert len(dense._inbound_nodes) == before[0]
    for new, old in zip(model.get_weights(), before[1], strict=True):
        np.testing.assert_array_equal(new, old)
    assert model.compiled


def test_depthwise_kernels_have_two_feature_axes():
    conv = layers.DepthwiseConv2D(3, depth_multiplier=2, name="c")
    model = keras.Sequential([keras.Input((6, 6, 4)), conv])
    assert positions(model) == {"c": 16}
    assert prunable_kernels(model)[0].features == 8


def macs(model):
    """Multiply-accumulates a sample by kernel, of a stock model and its masked twin."""
    counts = []
    for net in (model, sparsify(model, copy=True)):
        count = connection_positions(net)
        kernels = prunable_kernels(net)
        counts.append([int(np.prod(k.shape)) * count(k) for k in kernels])
    assert counts[0] == counts[1]
    return counts[0]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_transposed_convolution_multiplies_its_kernel_into_each_input(
    padding, data_format
):
    shape = (5, 6, 2) if data_format == "channels_last" else (2, 5, 6)
    inputs = keras.Input(shape)
    conv = layers.Conv2DTranspose(3, 4, 2, padding, data_format=data_format)
    spec = conv.compute_output_spec(inputs)
    assert spec.shape[1:] != shape
    model = keras.Model(inputs, conv(inputs))
    assert prunable_kernels(model)[0].features == 3
    assert macs(model) == [5 * 6 * 2 * 3 * 4 * 4]


def test_both_kernels_of_a_separable_convolution_serve_its_output():
    conv = layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2)
    model = keras.Sequential([keras.Input((9, 9, 3)), conv])
    depthwise = 4 * 4 * 3 * 2 * 3 * 3
    assert macs(model) == [depthwise, 4 * 4 * 3 * 2 * 5]


@pytest.mark.parametrize(
    ("equation", "shape", "output", "expected", "features"),
    [
        ("abc,cde->abde", (4, 3), (4, 2, 5), 4 * 3 * 2 * 5, 10),
        ("abc,cd->abd", (4, 3), (None, 5), 4 * 3 * 5, 5),
        ("...x,xy->...y", (2, 4, 3), 5, 2 * 4 * 3 * 5, 5),
        ("abcd,cde->abe", (4, 2, 3), (4, 5), 4 * 2 * 3 * 5, 5),
        ("abc,bcd->abd", (4, 3), (4, 5), 4 * 3 * 5, 20),
        ("abc,cd->ad", (4, 3), 5, 4 * 3 * 5, 5),
        ("ab,b->a", (3,), (), 3, 1),
    ],
)
def test_einsum_macs_are_the_product_of_all_its_axes(
    equation, shape, output, expected, features
):
    model = keras.Sequential([keras.Input(shape), layers.EinsumDense(equation, output)])
    assert macs(model) == [expected]
    assert prunable_kernels(model)[0].features == features


def test_recurrent_kernels_serve_every_step_and_embeddings_none():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(9, 3)(inputs)
    cells = layers.StackedRNNCells([layers.LSTMCell(2), layers.SimpleRNNCell(4)])
    x = layers.RNN(cells, return_sequences=True)(x)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(6))(x)
    lstm, simple = [3 * 8, 2 * 8], [2 * 4, 4 * 4]
    gru = [4 * 15, 5 * 15]
    expected = [7 * n for n in lstm + simple + gru + gru + [10 * 6]]
    assert macs(keras.Model(inputs, x)) == [0, *expected]


def test_a_wrapped_model_is_entered_with_the_shapes_of_each_step():
    net = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3)])
    model = keras.Sequential([keras.Input((5, 6, 6, 1)), layers.TimeDistributed(net)])
    assert macs(model) == [5 * 4 * 4 * 9 * 2]


@pytest.mark.parametrize("grouped", [False, True])
def test_attention_projects_each_sequence_by_its_own_length(grouped):
    query, value = keras.Input((3, 8)), keras.Input((5, 8))
    if grouped:
        attention = layers.GroupQueryAttention(4, 4, 2)
        heads = [8 * 16 * 3, 8 * 8 * 5, 8 * 8 * 5, 16 * 8 * 3]
    else:
        attention = layers.MultiHeadAttention(2, 4, value_dim=5)
        heads = [8 * 8 * 3, 8 * 8 * 5, 8 * 10 * 5, 10 * 8 * 3]
    model = keras.Model([query, value], attention(query, value))
    assert macs(model) == heads
    again = keras.Model([query, value], attention(query=query, value=value))
    assert macs(again) == heads


def test_unknown_lengths_are_unknown_in_recurrent_layers_too():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.LSTM(2, name="l")(inputs))
    assert positions(model) == {"lstm_cell": None}


@pytest.mark.parametrize("activation", [layers.PReLU, layers.LeakyReLU])
def test_an_activation_that_is_a_layer_hides_no_kernel(activation):
    hidden = layers.Dense(6, activation=activation(), name="a")
    model = keras.Sequential([keras.Input((8,)), hidden, layers.Dense(3, name="b")])
    assert positions(model) == {"a": 1, "b": 1}
    assert positions(sparsify(model, verbose=0)) == {"a": 1, "b": 1}
