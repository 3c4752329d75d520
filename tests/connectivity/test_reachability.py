import keras
import numpy as np
import pytest
import tensorflow as tf
from cutting import cut
from keras import layers, ops
from maskable_layers import Bottleneck

from scl_keras import sparsify
from scl_keras.connectivity import ConnectionGraph, effective_masks, stand_in


def by_layer(model, **arguments):
    graph = ConnectionGraph(model, **arguments)
    return {
        kernel.layer.name: mask
        for kernel, mask in zip(graph.kernels, graph.effective(), strict=True)
    }


def test_masks_are_boolean_arrays_by_the_names_of_the_summary():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")],
        name="net",
    )
    cut(model.layers[0], slice(None), 1)
    cut(model.layers[1], 2)
    masks = effective_masks(model)
    assert list(masks) == [k.label for k in ConnectionGraph(model).kernels]
    first, last = masks.values()
    assert first.dtype == last.dtype == bool
    np.testing.assert_array_equal(first, [[True, False, False]] * 4)
    np.testing.assert_array_equal(last, [[True] * 2, [False] * 2, [False] * 2])


def test_two_hundred_layers_neither_overflow_nor_fade():
    x = inputs = keras.Input((8, 8, 16))
    for _ in range(200):
        x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))
    kernels = ConnectionGraph(model).kernels
    for kernel in kernels:
        kernel.layer.kernel.assign(np.ones(kernel.shape))
    assert all(mask.all() for mask in effective_masks(model).values())
    cut(kernels[100].layer, slice(None), slice(None), slice(None), slice(1, None))
    masks = list(effective_masks(model).values())
    assert masks[99].all() and masks[100][..., 0].all() and masks[102].all()
    assert not masks[100][..., 1:].any()
    assert not masks[101][:, :, 1:].any() and masks[101][:, :, 0].all()
    cut(kernels[100].layer, slice(None))
    assert not any(mask.any() for mask in effective_masks(model).values())


def test_paths_start_at_inputs_and_not_at_biases():
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, bias_initializer="ones"), layers.Dense(1)]
    )
    cut(model.layers[0], slice(None), 1)
    first, last = effective_masks(model).values()
    np.testing.assert_array_equal(last[:, 0], [True, False])
    np.testing.assert_array_equal(first, [[True, False]] * 2)


def test_a_gate_that_is_a_constant_does_not_close_the_way():
    inputs = keras.Input((3,))
    gate = layers.Dense(3, "sigmoid", name="gate")(inputs)
    x = layers.Multiply()([layers.Dense(3, name="way")(inputs), gate])
    model = keras.Model(inputs, layers.Dense(1, name="end")(x))
    model.get_layer("gate").kernel.assign(np.zeros((3, 3)))
    masks = by_layer(model)
    assert masks["way"].all() and masks["end"].all() and not masks["gate"].any()


def test_kept_connections_can_be_given_without_touching_the_model():
    model = sparsify(
        keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Dense(2)])
    )
    graph = ConnectionGraph(model)
    kept = [np.ones((3, 3)), np.ones((3, 2))]
    kept[0][:, 0] = 0
    first, last = graph.effective(kept)
    assert not first[:, 0].any() and first[:, 1:].all()
    assert not last[0].any() and last[1:].all()
    assert all(mask.all() for mask in graph.effective())
    with pytest.raises(ValueError, match=r"\(3, 3\), \(3, 2\).*Received.*\(3, 2\)"):
        graph.effective(kept[1:])
    with pytest.raises(ValueError, match="Received"):
        graph.effective(kept[::-1])


def test_layers_that_are_not_used_are_not_effective():
    inputs = keras.Input((3,))
    hidden = layers.Dense(2, name="used")(inputs)
    layers.Dense(2, name="unused")(hidden)
    model = keras.Model(inputs, hidden)
    assert by_layer(model)["used"].all()
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], layers.Dense(2, name="d")(b))  # an input unused
    assert by_layer(model)["d"].all()


UNKNOWN = {
    "Lambda": lambda x: layers.Lambda(lambda x: tf.reverse(x, [1]), name="u")(x),
    "LSTM": lambda x: layers.LSTM(4, tf.tanh, name="u")(ops.expand_dims(x, 1)),
    "Bottleneck": lambda x: Bottleneck(3, 4, name="u")(x),
    "activation": lambda x: layers.Dense(4, lambda x: tf.sin(x), name="u")(x),
    "Cumsum": lambda x: ops.cumsum(x, axis=1),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_fully_connected_and_named(name):
    inputs = keras.Input((4,))
    x = UNKNOWN[name](layers.Dense(4, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(4, name="last")(x))
    cut(model.get_layer("first"), slice(None), slice(1, None))
    cut(model.get_layer("last"), slice(1, None))
    graph = ConnectionGraph(model)
    (unknown,) = graph.unknown
    assert name in unknown
    masks = by_layer(model)
    assert masks["first"][:, 0].all() and masks["last"][0].all()


def test_kernels_of_unknown_layers_are_effective_where_kept_and_on_a_way():
    inputs = keras.Input((4,))
    x = Bottleneck(3, 4, name="u")(layers.Dense(2, name="first")(inputs))
    model = sparsify(keras.Model(inputs, layers.Dense(2, name="last")(x)))
    kept = np.ones((2, 3))
    kept[1, 1] = 0
    model.get_layer("u").squeeze_mask.assign(kept)
    graph = ConnectionGraph(model)
    masks = dict(zip([k.name for k in graph.kernels], graph.effective(), strict=True))
    np.testing.assert_array_equal(masks["squeeze"], kept != 0)
    assert masks["expand"].all()
    model.get_layer("first").kernel_mask.assign(np.zeros((4, 2)))
    assert not any(mask.any() for mask in graph.effective())


class Reversed(layers.Layer):
    """Stands for a layer of one's own."""

    def call(self, x):
        return x[:, ::-1]


def test_a_layer_of_ones_own_is_made_known():
    @stand_in(Reversed)
    def _(layer, x):
        return x[:, ::-1]

    inputs = keras.Input((3,))
    x = Reversed()(layers.Dense(3, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(1, name="last")(x))
    cut(model.get_layer("last"), 0)
    graph = ConnectionGraph(model)
    assert graph.unknown == ()
    np.testing.assert_array_equal(by_layer(model)["first"].all(0), [True, True, False])


class Wrong(layers.Layer):
    def call(self, x):
        return x


def test_a_stand_in_of_the_wrong_shape_is_refused():
    stand_in(Wrong)(lambda layer, x: x[:, :1])
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3), Wrong(name="w")])
    with pytest.raises(
        ValueError, match=r"'w' \(Wrong\).*\(1, 3\). Received: \(1, 1\)"
    ):
        effective_masks(model)


def test_functions_of_keras_ops_are_followed():
    """Where each unit goes is written beside each line."""
    inputs = keras.Input((4,))
    a = layers.Dense(4, name="a")(inputs)
    b = layers.Dense(4, name="b")(inputs)
    x = ops.concatenate([ops.relu(a)[:, :2] + 1.0, ops.flip(b, axis=1)[:, 2:]], axis=-1)
    x = ops.transpose(ops.reshape(x, (-1, 2, 2)), (0, 2, 1))  # a0 b1 | a1 b0
    y = ops.sum(x * 2.0, axis=1)[:, :1]  # a0 and a1
    z = ops.where(x[:, 1] > 0, x[:, 1], -x[:, 1])  # a1 and b0
    model = keras.Model(inputs, [y, z])
    graph = ConnectionGraph(model)
    assert graph.unknown == ()
    masks = by_layer(model)
    np.testing.assert_array_equal(masks["a"].all(0), [True, True, False, False])
    np.testing.assert_array_equal(masks["b"].all(0), [True, False, False, False])


def test_products_of_two_tensors_are_followed():
    inputs = keras.Input((2,))
    a = layers.Reshape((2, 2))(layers.Dense(4, name="a")(inputs))
    b = layers.Reshape((2, 2))(layers.Dense(4, name="b")(inputs))
    model = keras.Model(inputs, ops.matmul(a, b)[:, 0, 0])
    masks = by_layer(model)
    np.testing.assert_array_equal(masks["a"].all(0), [True, True, False, False])
    np.testing.assert_array_equal(masks["b"].all(0), [True, False, True, False])
    model = keras.Model(inputs, layers.Dot(axes=(2, 1))([a, b])[:, 0, 0])
    np.testing.assert_array_equal(by_layer(model)["b"].all(0), masks["b"].all(0))


def test_padding_and_strides_decide_at_the_border():
    """A 3x3 filter whose taps only ever see the padding of a one pixel image."""
    model = keras.Sequential(
        [keras.Input((1, 1, 1)), layers.Conv2D(1, 3, padding="same")]
    )
    (mask,) = effective_masks(model).values()
    assert mask.sum() == 1 and mask[1, 1, 0, 0]
    strided = keras.Sequential(
        [keras.Input((4, 1)), layers.Conv1D(1, 1, 2), layers.Flatten(), layers.Dense(1)]
    )
    cut(strided.layers[-1], 0)
    assert all(mask.sum() == 1 for mask in list(effective_masks(strided).values()))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(2, 3, padding="same", data_format="channels_first"),
        layers.MaxPooling2D(2, data_format="channels_first"),
        layers.GlobalAveragePooling2D(data_format="channels_first", keepdims=True),
        layers.DepthwiseConv2D(2, data_format="channels_first"),
        layers.GroupNormalization(1, axis=1),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.Resizing(3, 7),
        layers.AdaptiveMaxPooling2D(3),
        layers.UnitNormalization(),
    ],
    ids=lambda layer: layer.name,
)
def test_all_ones_stay_effective(layer):
    inputs = keras.Input((2, 4, 4))
    x = layers.Flatten()(layer(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    graph = ConnectionGraph(model)
    assert graph.unknown == ()
    assert all(mask.all() for mask in graph.effective())


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize(("interpolation", "size"), [("nearest", 2), ("bilinear", 7)])
def test_resized_images_are_followed_as_they_are_read(interpolation, size, data_format):
    arguments = {"interpolation": interpolation, "data_format": data_format}
    inputs = keras.Input((1, 4, 4) if data_format == "channels_first" else (4, 4, 1))
    by_layer = layers.Resizing(size, 3, **arguments)(inputs)
    by_operation = ops.image.resize(inputs, (size, 3), **arguments)
    for resized in (by_layer, by_operation):
        model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(resized)))
        graph = ConnectionGraph(model)
        assert graph.unknown == ()
        for place in range(3 * size):
            kept = np.arange(3 * size)[:, None] == place
            reached = graph.spread([kept]).needed[id(graph.trace.inputs[0])]
            weights = np.zeros((3 * size, 1), "float32")
            weights[place] = 1
            model.layers[-1].set_weights([weights, np.zeros(1)])
            pixels = np.eye(16, dtype="float32").reshape(16, *inputs.shape[1:])
            read = np.abs(model(pixels)) > 1e-6
            np.testing.assert_array_equal(np.ravel(reached) > 0, read[:, 0])


def test_open_sizes_have_to_be_given():
    inputs = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(2, 3, name="c")(inputs)
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(x))
    with pytest.raises(ValueError, match="`input_shapes`.*Received: input_shapes=None"):
        effective_masks(model)
    assert by_layer(model, input_shapes=(3, 3, 3))["c"].all()
    assert by_layer(model, input_shapes=[(5, 4, 3)])["c"].all()
    for wrong in [(5, 5), (5, 5, 4), [(5, 5, 3), (5, 5, 3)], (None, 5, 3)]:
        with pytest.raises(ValueError, match="Received: input_shapes="):
            effective_masks(model, wrong)


def test_models_without_a_graph_are_refused():
    class Net(keras.Model):
        def call(self, x):
            return x

    for model in (Net(), keras.Sequential([layers.Dense(2)]), layers.Dense(2)):
        with pytest.raises(ValueError, match="built Keras model.*Received"):
            effective_masks(model)


def test_the_models_calls_and_weights_are_left_alone():
    inputs = keras.Input((4,))
    dense = layers.Dense(3)
    model = keras.Model(inputs, dense(inputs))
    before = len(dense._inbound_nodes), dense.kernel.numpy()
    effective_masks(model)
    assert len(dense._inbound_nodes) == before[0]
    np.testing.assert_array_equal(dense.kernel, before[1])


def test_mixed_precision_and_a_fixed_batch():
    inputs = keras.Input(batch_shape=(3, 6, 6, 2))
    x = layers.Conv2D(2, 3, dtype="mixed_float16", name="c")(inputs)
    x = layers.Reshape((-1,), dtype="mixed_float16")(x)
    model = keras.Model(inputs, layers.Dense(2, dtype="float16", name="d")(x))
    assert all(mask.all() for mask in by_layer(model).values())
