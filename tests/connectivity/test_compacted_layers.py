"""What compaction leaves of layers: their state, weights, shapes and functions."""

import keras
import numpy as np
import pytest
from cutting import cut
from keras import layers, ops

from scl_keras import ConnectionGraph, compact, compaction_report, sparsify


def assert_same(model, small, rng):
    inputs = [
        rng.normal(size=(3, *x.shape[1:])).astype("float32") for x in model.inputs
    ]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    expected = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(small.predict(inputs, verbose=0), expected, atol=1e-5)


def randomize(model, rng):
    for w in model.weights:
        w.assign(rng.normal(size=w.shape))


@pytest.mark.parametrize("other", [(1, 1, 4), (6, 1, 4), (1, 6, 4)])
def test_a_sum_keeps_its_shape_where_its_only_whole_term_is_zero(other, rng):
    inputs, small_one = keras.Input((6, 6, 3)), keras.Input(other)
    x = layers.Conv2D(4, 3, padding="same", name="c", use_bias=False)(inputs)
    y = layers.Dense(4)(small_one)
    model = keras.Model([inputs, small_one], layers.ReLU()(layers.Add()([x, y])))
    cut(model.get_layer("c"), ...)
    small = compact(model)
    assert small.output_shape == (None, 6, 6, 4)
    assert_same(model, small, rng)


def test_of_zero_terms_that_are_not_needed_none_stays(rng):
    inputs = keras.Input((6,))
    terms = [layers.Dense(4, name=name, use_bias=False)(inputs) for name in "abc"]
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()(terms)))
    cut(model.get_layer("a"), ...)
    cut(model.get_layer("c"), ...)
    small = compact(model)
    assert [x.name for x in small.layers if "kernel" in dir(x)][:1] == ["b"]
    assert len(small.layers) == 3
    assert_same(model, small, rng)


def test_state_and_statistics_are_not_moved_by_the_analysis(rng):
    """A layer's state, or statistics that it is told to take of the batch."""
    inputs = keras.Input((5, 3), batch_size=2)
    x = layers.BatchNormalization()(inputs, training=True)
    x = layers.LSTM(4, stateful=True, bias_initializer="ones", name="lstm")(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    x = rng.normal(size=(2, 5, 3)).astype("float32")
    small = compact(model)
    for a, b in zip(model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for _ in range(2):
        a, b = model.predict(x, verbose=0), small.predict(x, verbose=0)
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_report_of_models_that_were_never_called():
    small, large = (
        keras.Sequential([keras.Input((8,)), layers.Dense(n), layers.Dense(3)])
        for n in (4, 16)
    )
    report = compaction_report(large, small, seconds=0)
    assert (report.parameters_before, report.parameters_after) == (195, 51)


def test_the_state_of_a_stateful_model_goes_on_after_its_report(rng):
    lstm = layers.LSTM(4, stateful=True, bias_initializer="ones")
    model = keras.Sequential([keras.Input((5, 3), batch_size=2), lstm, layers.Dense(2)])
    model.predict(rng.normal(size=(2, 5, 3)).astype("float32"), verbose=0)
    before = [ops.convert_to_numpy(state) for state in lstm.states]
    small = compact(model)
    report = compaction_report(model, small, seconds=0)
    assert report.difference < 1e-5
    for a, b in zip(before, lstm.states, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))
    assert not any(np.any(x) for x in small.layers[1].states)


def adapted(layer, data):
    layer.adapt(data)
    return layer


NAMED_ALIKE = {
    "Normalization": lambda rng, n: (
        adapted(layers.Normalization(name="it"), rng.normal(n, n, (50, 4))),
        "float32",
    ),
    "Discretization": lambda rng, n: (
        adapted(layers.Discretization(num_bins=4, name="it"), n * rng.random((50, 4))),
        "float32",
    ),
    "StringLookup": lambda rng, n: (
        adapted(layers.StringLookup(name="it"), [str(k) for k in range(n)]),
        "string",
    ),
    "Lambda": lambda rng, n: (layers.Lambda(lambda x: x * n, name="it"), "float32"),
    "Embedding": lambda rng, n: (layers.Embedding(4, 2, name="it"), "int32"),
}


@pytest.mark.parametrize("kind", NAMED_ALIKE)
def test_layers_of_one_name_in_nested_models_keep_what_they_have_learned(kind, rng):
    if kind == "StringLookup" and keras.backend.backend() != "tensorflow":
        pytest.skip("Only TensorFlow has tensors of strings.")

    def nested(n):
        layer, dtype = NAMED_ALIKE[kind](rng, n)
        x = keras.Input((4,), dtype=dtype)
        y = keras.ops.cast(layer(x), "float32")
        y = y if len(y.shape) == 2 else layers.Flatten()(y)
        return keras.Model(x, layers.Dense(3, name="d")(y), name=f"nested{n}")

    inner = nested(2), nested(5)
    inputs = [keras.Input((4,), dtype=x.input.dtype) for x in inner for _ in "ab"]
    ends = [x(y) for x, y in zip([inner[0], *inner, inner[1]], inputs, strict=True)]
    model = keras.Model(inputs, layers.Concatenate()(ends))
    small = compact(model)
    rest = [rng.integers(0, 6, (3, 4)) for _ in inputs]
    if inputs[0].dtype == "string":
        values = [ops.convert_to_tensor(x.astype(str).tolist()) for x in rest]
    else:
        values = [(x % 4).astype(inputs[0].dtype) for x in rest]
    np.testing.assert_allclose(small(values), model(values), rtol=1e-5, atol=1e-5)


def test_a_model_called_twice_with_a_layer_in_it_that_is_a_function(rng):
    stack = [layers.Dense(4), layers.Lambda(lambda x: x * 2)]
    inner = keras.Sequential([keras.Input((4,)), *stack])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(inner(inputs)))
    assert_same(model, compact(model), rng)
    inputs = keras.Input((3, 4))
    x = layers.TimeDistributed(layers.Lambda(lambda x: x * 2))(inputs)
    model = sparsify(keras.Model(inputs, layers.Dense(3)(x)), verbose=0)
    assert_same(model, compact(model), rng)


@pytest.mark.parametrize("activation", [layers.PReLU, layers.LeakyReLU])
def test_activations_that_are_layers_keep_their_weights(activation, rng):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(5, 3, name="a")(inputs)
    x = layers.Conv2D(4, 1, activation=activation(), use_bias=False, name="b")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    randomize(model, rng)
    cut(model.get_layer("a"), ..., 1)
    model.get_layer("a").bias.assign([1, 2, 0, 1, 1])
    small = compact(model)
    assert small.get_layer("a").filters == 4
    assert_same(model, small, rng)


def test_the_report_says_what_it_can_not_compare():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    for other in (keras.Sequential([layers.Dense(2)]), None, layers.Dense(2)):
        with pytest.raises(ValueError, match="`compacted` must be.*Received"):
            compaction_report(model, other)
        with pytest.raises(ValueError, match="`model` must be.*Received"):
            compaction_report(other, model)
    with pytest.raises(ValueError, match="batch_size=0"):
        compaction_report(model, model, batch_size=0)


def test_layers_of_the_small_model_know_their_outputs(rng):
    """As features of it are taken, and the model's own layers stay as they were."""
    inputs = keras.Input((4,))
    x = layers.ReLU(name="r")(layers.Dense(5, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="b")(x))
    small = compact(model)
    for each in (model, small):
        features = keras.Model(each.input, each.get_layer("r").output)
        assert features.output_shape == (None, 5)
    assert not {id(x) for x in model.layers} & {id(x) for x in small.layers}


class Counting(layers.Layer):
    """A dense layer that counts its calls."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)
        self.calls = self.add_weight((), initializer="zeros", trainable=False)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        self.calls.assign_add(1.0)
        return self.dense(x)


def test_what_a_layer_counts_is_not_moved_by_the_analysis(rng):
    inputs = keras.Input((3,))
    layer = Counting(name="counting")
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    sparsify(model, verbose=0)
    ConnectionGraph(model).effective()
    small = compact(model)
    assert float(layer.calls) == float(small.get_layer("counting").calls) == 0
    assert_same(model, small, rng)


def test_noise_is_no_constant_whatever_reaches_it(rng):
    inputs = keras.Input((3,))
    x = layers.Dense(4, "relu", name="cut")(inputs)
    x = layers.GaussianNoise(1.0)(x, training=True)
    x = layers.Concatenate()([layers.Dense(4)(inputs), layers.Dense(2)(x)])
    model = keras.Model(inputs, layers.Dense(1, name="end")(x))
    cut(model.get_layer("cut"), ...)
    small = compact(model)
    assert small.get_layer("end").kernel.shape == (6, 1)
    same = np.tile(rng.normal(size=(1, 3)).astype("float32"), (4000, 1))
    a, b = (np.std(ops.convert_to_numpy(m(same))) for m in (model, small))
    np.testing.assert_allclose(a, b, rtol=0.1)
    assert a > 0.01


def test_a_state_is_no_constant_whatever_reaches_it(rng):
    inputs = keras.Input((3, 2), batch_size=2)
    x = layers.Dense(4, name="cut")(inputs)
    x = layers.Dense(2)(layers.LSTM(4, stateful=True, bias_initializer="ones")(x))
    x = layers.Concatenate()([layers.Dense(4)(layers.Flatten()(inputs)), x])
    model = keras.Model(inputs, layers.Dense(1, name="end")(x))
    cut(model.get_layer("cut"), ...)
    small = compact(model)
    x = rng.normal(size=(2, 3, 2)).astype("float32")
    for _ in range(3):
        a, b = model.predict(x, verbose=0), small.predict(x, verbose=0)
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_array_among_the_terms_of_a_sum_stays(rng):
    inputs = keras.Input((3,))
    x = layers.Dense(4, name="a")(inputs)
    x = layers.Add()([x, np.arange(4.0, dtype="float32")[None]])
    model = keras.Model(inputs, layers.Dense(2)(x))
    cut(model.get_layer("a"), slice(None), 1)
    assert_same(model, compact(model), rng)


def test_a_layer_whose_output_is_not_what_it_announces_is_named():
    texts = layers.TextVectorization(output_mode="multi_hot", name="words")
    texts.adapt(["a b c", "d e"])
    inputs = keras.Input((1,), dtype="string")
    hidden = layers.Dense(5, "relu", name="q")
    model = keras.Model(inputs, layers.Dense(2)(hidden(texts(inputs))))
    hidden.kernel.assign(hidden.kernel.numpy() * [1, 1, 0, 1, 1])
    with pytest.raises(
        ValueError, match="'words' .TextVectorization.*3 axes.*one of 2"
    ):
        compact(model)
