import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from scl_keras import (
    MaskedConv2D,
    MaskedDense,
    MaskedLayer,
    SCLModel,
    TargetSparsity,
    find_masks,
    sparsify,
    strip_masks,
    stripped,
    unmasked_layers,
)
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.walking import walk_inside


def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2), name="image"),
            layers.Rescaling(2.0),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="plain",
    )


def residual_with_ops():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    x = ops.add(x, y) * 2.0
    x = ops.concatenate([x[:, ::2, ::2], ops.relu(y)[:, 1::2, 1::2]], axis=-1)
    x = layers.SeparableConv2D(3, 2)(x)
    return keras.Model(inputs, layers.Dense(3)(ops.mean(x, axis=(1, 2))))


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, "tanh"), layers.Dense(4)], name="inner"
    )
    deep_input = keras.Input((4,))
    deep = keras.Model(deep_input, inner(layers.Dense(4)(deep_input)), name="deep")
    inputs = keras.Input((4,), name="x")
    x = layers.add([deep(inputs), deep(layers.Dense(4)(inputs)), inner(inputs)])
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="no_file")


def layer_inside_and_outside():
    shared = layers.Dense(4, activation="tanh", name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared, layers.Dense(4)])
    inputs = keras.Input((4,))
    x = layers.add([shared(inner(inputs)), shared(inputs)])
    return keras.Model(inputs, layers.Dense(2)(x), name="no_file")


def sequential_of_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    inputs = keras.Input((4,))
    functional = keras.Model(inputs, layers.Dense(3)(inputs) + 1.0)
    return keras.Sequential([keras.Input((4,)), inner, functional, layers.Softmax()])


def dicts_and_lists():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = layers.Concatenate()([layers.Dense(2)(a), b])
    outputs = {"p": layers.Dense(1)(h), "q": [layers.Dense(2)(h), h]}
    return keras.Model({"b": b, "a": a}, outputs)


def listed():
    a, b = keras.Input((4,)), keras.Input((4,))
    dense = layers.Dense(3)
    return keras.Model([a, b], [dense(b), layers.subtract([dense(a), dense(b)]), a])


def sequences():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    x = layers.Bidirectional(layers.GRU(3))(layers.TimeDistributed(layers.Dense(3))(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def adapted():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).normal(5, 3, (50, 4)))
    return keras.Sequential([keras.Input((4,)), normalization, layers.Dense(3)])


def with_lambda():
    shift = 3.0
    inputs = keras.Input((4,))
    x = layers.Lambda(lambda x: ops.tanh(x) + shift)(inputs)
    return keras.Model(inputs, layers.Dense(3)(x), name="no_file")


def already_masked():
    inputs = keras.Input((6, 6, 2))
    x = MaskedConv2D(3, 2, ste="softplus", name="kept")(inputs)
    x = layers.Conv2D(3, 2, name="new")(x)
    return SCLModel(inputs, MaskedDense(2)(layers.Flatten()(x)))


def mixed():
    inputs = keras.Input((4,))
    x = layers.Dense(3, dtype="mixed_float16")(inputs)
    return keras.Model(inputs, layers.Dense(2, dtype="mixed_bfloat16")(x))


MODELS = [
    sequential,
    residual_with_ops,
    nested,
    layer_inside_and_outside,
    sequential_of_models,
    dicts_and_lists,
    listed,
    sequences,
    adapted,
    with_lambda,
    already_masked,
    mixed,
]


@pytest.fixture(params=MODELS, ids=lambda make: make.__name__)
def model(request):
    return scramble(request.param())


def scramble(model, seed=0):
    """Gives biases, means and variances values of their own, too."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 1 and not weight.path.startswith("normalization"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def data(model, batch=3, seed=0):
    rng = np.random.default_rng(seed)

    def sample(tensor):
        shape = (batch, *tensor.shape[1:])
        if tensor.dtype == "int32":
            return rng.integers(0, 7, shape).astype("int32")
        return rng.normal(size=shape).astype("float32")

    struct = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(sample, struct)


def assert_same(got, expected):
    keras.tree.assert_same_structure(got, expected)
    got, expected = keras.tree.flatten(got), keras.tree.flatten(expected)
    for a, b in zip(got, expected, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def set_masks(model, rng, share=0.5):
    for mask in find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < share)


def leaves(model):
    return [x for x in walk_inside(model)[1:] if not isinstance(x, layers.InputLayer)]


def stock_weights(model):
    return [w for w in model.weights if not hasattr(w, "connection_mask")]


def test_sparsify_keeps_the_model_its_layers_weights_and_outputs(model):
    x = data(model)
    before, kind = model(x), type(model)
    known, weights = walk_inside(model), stock_weights(model)
    masked = sparsify(model)
    assert masked is model and isinstance(model, SCLModel) and isinstance(model, kind)
    assert not model.compiled
    assert_same(model(x), before)
    assert [id(y) for y in walk_inside(model)] == [id(y) for y in known]
    assert [id(w) for w in stock_weights(model)] == [id(w) for w in weights]
    assert find_masks(model)
    own = [y for y in leaves(model) if type(y) in (layers.Dense, layers.Conv2D)]
    assert own == []


DROPOUT = ("_dropout_mask", "_recurrent_dropout_mask")  # of calls of recurrent cells


def state(layer):
    """What a layer has, but for what Keras counts and for masks."""
    own = {k: v for k, v in vars(layer).items() if "lock" not in k}
    own.pop("_tracker"), own.pop("_layers", None)
    return {k: id(v) for k, v in own.items() if not isinstance(v, (list, dict))}


def test_strip_is_the_exact_reverse(model, rng):
    known = walk_inside(model)
    if any(isinstance(y, MaskedLayer) for y in known):
        pytest.skip("it has masks to begin with")
    kinds, states = [type(y) for y in known], [state(y) for y in known]
    weights = [id(w) for w in model.weights]
    sparsify(model)
    set_masks(model, rng)
    x = data(model)
    expected = model(x)
    assert strip_masks(model) is model
    assert_same(model(x), expected)
    assert [type(y) for y in walk_inside(model)] == kinds
    assert [id(w) for w in model.weights] == weights
    for before, layer in zip(states, known, strict=True):
        after = state(layer)
        for name in ("_called", "train_function", *DROPOUT):
            before.pop(name, None), after.pop(name, None)
        assert before == after
        assert before.keys() == after.keys()


def test_strip_writes_zeros_and_keeps_outputs_also_in_a_file(model, rng, tmp_path):
    sparsify(model)
    set_masks(model, rng)
    x = data(model)
    expected = model(x)
    kept = [np.array(mask.variable) > 0 for mask in find_masks(model)]
    kernels = prunable_kernels(model)
    values = [np.array(getattr(k.layer, k.name)) for k in kernels]
    strip_masks(model)
    assert_same(model(x), expected)
    assert find_masks(model) == []
    assert not any(isinstance(y, MaskedLayer) for y in leaves(model))
    for kernel, mask, value in zip(kernels, kept, values, strict=True):
        np.testing.assert_array_equal(getattr(kernel.layer, kernel.name), value * mask)
        assert not mask.all()
    if model.name == "no_file":  # Keras doesn't load the stock model either
        return
    path = tmp_path / "m.keras"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        for name in ("config.json", "metadata.json"):
            assert b"scl_keras" not in file.read(name)
    assert_same(keras.models.load_model(path)(x), expected)


def test_a_masked_model_comes_back_from_its_file(model, rng, tmp_path):
    if model.name == "no_file":
        pytest.skip("Keras doesn't load the stock model either")
    sparsify(model, ste="leaky_relu")
    set_masks(model, rng)
    x = data(model)
    expected = model(x)
    model.save(tmp_path / "m.keras")
    assert_same(model(x), expected)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded) is type(model)
    assert_same(loaded(x), expected)
    for a, b in zip(find_masks(loaded), find_masks(model), strict=True):
        assert a.ste == b.ste and a.granularity == b.granularity
        np.testing.assert_array_equal(a.variable, b.variable)
    assert_same(strip_masks(loaded)(x), expected)


def test_masks_come_and_go_and_come_again(model, rng):
    x = data(model)
    for _ in range(2):
        sparsify(model)
        assert all(mask.count() == mask.size for mask in find_masks(model))
        set_masks(model, rng)
        expected, masks = model(x), find_masks(model)
        sparsify(model)  # keeps the masks there are
        assert [id(m) for m in find_masks(model)] == [id(m) for m in masks]
        assert_same(model(x), expected)
        for _ in range(2):
            strip_masks(model)
            assert_same(model(x), expected)


def test_a_copy_is_independent(model, rng):
    if model.name == "no_file":
        with pytest.raises(ValueError, match="can't copy|other shapes"):
            sparsify(model, copy=True)
            raise ValueError("other shapes")  # a lambda is no hindrance
        return
    x = data(model)
    before, kind = model(x), type(model)
    masked = sparsify(model, copy=True)
    assert type(model) is kind
    assert not {id(w) for w in masked.weights} & {id(w) for w in model.weights}
    assert_same(masked(x), before)
    set_masks(masked, rng, 0.0)
    for w in stock_weights(masked):
        w.assign(0 * w)
    assert_same(model(x), before)


def test_for_a_while_a_model_is_without_masks(model, rng):
    sparsify(model)
    set_masks(model, rng)
    x = data(model)
    expected, kind = model(x), type(model)
    weights = [(id(w), np.array(w)) for w in model.weights]
    with pytest.raises(ZeroDivisionError), stripped(model) as stock:
        assert stock is model and find_masks(model) == []
        assert_same(model(x), expected)
        raise ZeroDivisionError
    assert type(model) is kind
    assert [id(w) for w in model.weights] == [key for key, _ in weights]
    for w, (_, value) in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(w, value)
    assert_same(model(x), expected)


def test_what_keras_remembers_of_calls_is_left_alone(model):
    nodes = [(y, len(y._inbound_nodes)) for y in leaves(model)]
    sparsify(model)
    strip_masks(model)
    assert [len(y._inbound_nodes) for y, _ in nodes] == [count for _, count in nodes]
    called_once = [y for y, count in nodes if count == 1]
    assert all(y.output is not None for y in called_once)


def test_a_compiled_model_stays_compiled(rng, tmp_path):
    model = sequential()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    x, y = data(model, 16), rng.normal(size=(16, 3)).astype("float32")
    model.fit(x, y, verbose=0)
    adam, scores = model.optimizer, model.evaluate(x, y, verbose=0)
    assert model.predict(x, verbose=0).shape == (16, 3)
    sparsify(model)
    assert model.optimizer.optimizer is adam
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), scores, rtol=1e-6)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[TargetSparsity(0.5)])
    expected = model.predict(x, verbose=0)
    with stripped(model) as stock:
        assert stock.optimizer is adam
        np.testing.assert_allclose(stock.predict(x, verbose=0), expected, rtol=1e-5)
        stock.save(tmp_path / "m.keras")
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
    model.fit(x, y, verbose=0)
    strip_masks(model)
    assert model.optimizer is adam
    model.fit(x, y, verbose=0)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.optimizer) is keras.optimizers.Adam
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("make", [nested, layer_inside_and_outside, with_lambda])
def test_the_models_without_a_file_are_those_that_keras_can_not_load(make, tmp_path):
    make().save(tmp_path / "m.keras")
    with pytest.raises((ValueError, UserWarning)):
        keras.models.load_model(tmp_path / "m.keras")


@pytest.mark.slow
def test_what_is_stripped_loads_where_this_package_is_not(tmp_path, rng):
    model = residual_with_ops()
    sparse = sparsify(model)
    set_masks(sparse, rng)
    sparse.compile("adam", "mse")
    x = data(model)
    sparse.fit(x, np.zeros((3, 3)), verbose=0)
    np.savez(tmp_path / "io.npz", x=x, y=sparse(x))
    strip_masks(sparse).save(tmp_path / "m.keras")
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert not name.startswith("scl_keras"), name
sys.meta_path.insert(0, Refuse())
import keras, numpy as np
io = np.load("io.npz")
np.testing.assert_array_equal(keras.models.load_model("m.keras")(io["x"]), io["y"])
assert "scl_keras" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=600)


def test_vocabularies_are_copied():
    lookup = layers.StringLookup(output_mode="multi_hot")
    lookup.adapt(["a", "b", "c"])
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, layers.Dense(2)(lookup(inputs)))
    x = tf.constant([["a"], ["c"], ["?"]])
    np.testing.assert_array_equal(sparsify(model, copy=True)(x), model(x))


def names(model):
    return {y.name for y in leaves(model) if isinstance(y, MaskedLayer)}


def chooser():
    inputs = keras.Input((4,))
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="i1"), layers.Dense(4, name="i2")],
        name="inner",
    )
    x = layers.Reshape((2, 2, 1))(layers.Dense(4, name="d")(inner(inputs)))
    x = layers.Flatten()(layers.Conv2D(2, 2, name="c")(x))
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda m: None, {"i1", "i2", "d", "c", "last"}),
        (lambda m: layers.Conv2D, {"c"}),
        (lambda m: layers.Layer, {"i1", "i2", "d", "c", "last"}),
        (lambda m: "d", {"d"}),
        (lambda m: "i2", {"i2"}),
        (lambda m: "inner", {"i1", "i2"}),
        (lambda m: m.get_layer("inner"), {"i1", "i2"}),
        (lambda m: m.get_layer("last"), {"last"}),
        (lambda m: lambda layer: layer.name.startswith("i"), {"i1", "i2"}),
        (lambda m: ["d", layers.Conv2D, m.get_layer("last")], {"d", "c", "last"}),
        (lambda m: ("i1", lambda layer: layer.name == "d"), {"i1", "d"}),
        (lambda m: {"i1"}, {"i1"}),
    ],
)
def test_layers_are_chosen_in_every_way(choose, expected):
    model = chooser()
    sparse = sparsify(model, choose(model))
    assert names(sparse) == expected
    left = {y.name for y in unmasked_layers(sparse)}
    assert left == {"i1", "i2", "d", "c", "last"} - expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (layers.GRU, {"forward_g", "backward_g"}),
        ("forward_g", {"forward_g"}),
        ("both", {"forward_g", "backward_g"}),
        (layers.Bidirectional, {"forward_g", "backward_g"}),
        (layers.Dense, {"d", "i"}),
        ("steps", {"d"}),
        (layers.TimeDistributed, {"d", "i"}),
        ("inner", {"i"}),
        (lambda layer: layer.name in "cd", {"c", "d"}),
        (layers.RNN, {"forward_g", "backward_g", "c"}),
        ("c", {"c"}),
        (layers.MultiHeadAttention, {"a"}),
        (lambda layer: layer.name == "query", {"a"}),
    ],
)
def test_layers_in_wrappers_are_chosen_as_if_they_stood_outside(choice, expected, rng):
    inputs = keras.Input((3, 4))
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="i")], name="inner"
    )
    x = layers.TimeDistributed(layers.Dense(4, name="d"), name="steps")(inputs)
    x = layers.TimeDistributed(inner)(x)
    x = layers.MultiHeadAttention(2, 2, name="a")(x, x)
    x = layers.RNN(layers.LSTMCell(4, name="c"), return_sequences=True)(x)
    x = layers.Bidirectional(layers.GRU(2, name="g"), name="both")(x)
    model = keras.Model(inputs, x)
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    before = model(x)
    sparsify(model, choice)
    made = {"gru_cell", "query", "key", "value", "attention_output"}
    assert names(model) - {"both"} - made == expected
    np.testing.assert_array_equal(model(x), before)
    set_masks(model, rng)
    expected = model(x)
    np.testing.assert_array_equal(strip_masks(model)(x), expected)


def test_lora_on_a_layer_inside_of_another_leaves_it_alone(rng):
    inputs = keras.Input((3, 4))
    attention = layers.MultiHeadAttention(2, 2, name="mha")
    model = keras.Model(inputs, attention(inputs, inputs))
    attention.query_dense.enable_lora(2)
    b = attention.query_dense.lora_kernel_b
    b.assign(rng.normal(size=b.shape))
    x = data(model)
    before = model(x)
    sparsify(model)
    np.testing.assert_array_equal(model(x), before)
    assert type(attention.query_dense) is layers.EinsumDense
    assert len(find_masks(model)) == 3


def test_arguments_reach_the_masks():
    model = sparsify(chooser(), "d", mask_initializer="zeros", ste="softplus")
    (mask,) = find_masks(model)
    assert int(mask.count()) == 0
    assert model.get_layer("d").ste.get_config() == {}
    assert type(mask.ste).__name__ == "Softplus"


def test_what_can_not_be_masked_is_left_listed_and_said(capsys):
    inputs = keras.Input((3, 6, 2))
    x = layers.ConvLSTM1D(2, 3)(inputs)
    x = layers.SpectralNormalization(layers.Dense(3))(x)
    model = keras.Model(inputs, layers.PReLU()(layers.Dense(2)(x)), name="net")
    sparsify(model)
    kinds = [type(y).__name__ for y in unmasked_layers(model)]
    assert kinds == ["ConvLSTMCell", "SpectralNormalization", "Dense", "PReLU"]
    told = capsys.readouterr().out
    assert "'net': masked 1 of 6 kernels, " in told and told.count("\n") == 1
    assert "no masked version" in told and "shared with 'spectral_norm" in told
    sparsify(model, verbose=0)
    assert not capsys.readouterr().out
    assert unmasked_layers(sparsify(sequential())) == []
    assert unmasked_layers(sparsify(sequences())) == []
    assert not capsys.readouterr().out
    plain = [type(y).__name__ for y in unmasked_layers(sequential())]
    assert plain == ["Conv2D", "Dense"]
    kinds = {type(y).__name__ for y in unmasked_layers(sequences())}
    assert kinds == {"Dense", "Embedding", "EinsumDense", "GRUCell"}


def test_layers_with_lora_or_quantized_weights_are_left_listed_and_said(rng, capsys):
    model = keras.Sequential([keras.Input((4,))] + [layers.Dense(4) for _ in range(3)])
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(rng.normal(size=(2, 4)))
    model.layers[1].quantize("int8")
    x = data(model)
    before = model(x)
    sparsify(model)
    np.testing.assert_array_equal(model(x), before)
    assert names(model) == {model.layers[2].name}
    told = capsys.readouterr().out
    assert "LoRA is enabled" in told


def test_lora_enabled_on_masks_is_stripped_into_the_kernel(rng):
    model = sparsify(keras.Sequential([keras.Input((4,)), layers.Dense(4)]))
    set_masks(model, rng)
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(rng.normal(size=(2, 4)))
    x = data(model)
    expected = model(x)
    with stripped(model):
        np.testing.assert_allclose(model(x), expected, rtol=1e-6)
    np.testing.assert_array_equal(model(x), expected)
    np.testing.assert_allclose(strip_masks(model)(x), expected, rtol=1e-6)


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


@pytest.mark.parametrize("make", [unbuilt, lambda: layers.Dense(2), list])
def test_what_is_no_built_model_is_refused(make):
    with pytest.raises(ValueError, match="`sparsify` needs a built Keras model.*Recei"):
        sparsify(make())
    with pytest.raises(ValueError, match="`strip_masks` takes a Keras model.*Received"):
        strip_masks(layers.Dense(2))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("nope", "'nope'.*no layer of.*d, c, last; of the types Conv2D, Dense"),
        ([], "has .., which"),
        (layers.Flatten, "Flatten.*which is no layer of"),
        (lambda layer: False, "which is no layer of"),
        (["d", "nope"], "'nope'"),
        (3, "Received: 3"),
        (["d", None], "Received: None"),
        (layers.Dense(2, name="foreign"), "none of.*Received.*foreign"),
    ],
)
def test_layers_that_are_not_there_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        sparsify(chooser(), choice)


def test_training_flags_and_arguments_of_calls_are_kept():
    inputs = keras.Input((40,))
    x = layers.Dense(50, trainable=False, name="frozen")(inputs)
    x = layers.Dropout(0.5)(x, training=True)
    model = keras.Model(inputs, x)
    for change in (sparsify, strip_masks):
        net = change(model)
        assert net.trainable_variables == []
        assert not net.get_layer("frozen").trainable
        zeros = np.mean(net(np.ones((4, 40), "float32")).numpy() == 0)
        assert 0.3 < zeros < 0.7


def test_a_sparse_input_stays_sparse():
    inputs = keras.Input((4,), sparse=True, name="s")
    for model in (
        keras.Sequential([inputs, layers.Dense(3)]),
        keras.Model(inputs, layers.Dense(3)(inputs)),
    ):
        assert sparsify(model).inputs[0].sparse
        assert sparsify(model, copy=True).inputs[0].sparse
        assert strip_masks(model).inputs[0].sparse


def test_a_sequential_called_elsewhere_is_converted_by_its_own_input():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    keras.Model(other := keras.Input((2, 4)), model(other[:, 0]))
    x = np.ones((2, 4), "float32")
    expected = model(x)
    np.testing.assert_array_equal(sparsify(model)(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ste": "relu"}, "^`ste` must be one of .*Received: ste='relu'"),
        ({"mask_initializer": "foo"}, "^`mask_initializer` .*Received: .*'foo'"),
        ({"mask_initializer": float("nan")}, "^`mask_initializer` .*nan"),
    ],
)
def test_bad_arguments_are_told_in_a_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparsify(sequential_of_models(), **arguments)


def test_learned_masks_are_not_fixed_in_silence():
    sparse = sparsify(sequential_of_models())
    with pytest.raises(ValueError, match="`fix_masks\\(model\\)` fixes its masks"):
        sparsify(sparse, ste=None)


def test_both_learn_the_same_where_masks_do_not_move(rng):
    """A step of the sparsified model is a step of the stock model."""
    model = sequential_of_models()
    sparse = sparsify(model, copy=True)
    x, y = data(model, 16), rng.normal(size=(16, 3)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    sparse.compile(
        keras.optimizers.SGD(0.1),
        "mse",
        mask_optimizer=keras.optimizers.SGD(0.0),
        connection_cost=0.0,
    )
    for net in (model, sparse):
        net.fit(x, y, epochs=3, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(sparse(x), model(x), rtol=1e-6)


def random_graph(draw):
    """A functional model with branches, sharing, nesting, odd strides and pads."""
    channels = 2
    inputs = keras.Input((draw(st.integers(7, 9)), draw(st.integers(7, 9)), channels))
    tensors, shared = [inputs], {}

    def conv():
        return layers.Conv2D(
            draw(st.sampled_from([2, 4])),
            draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
            strides=draw(st.integers(1, 2)),
            padding=draw(st.sampled_from(["same", "valid"])),
            activation=draw(st.sampled_from([None, "relu"])),
            use_bias=draw(st.booleans()),
        )

    def fits(tensor):
        return min(tensor.shape[1:3]) >= 4

    for _ in range(draw(st.integers(2, 6))):
        open_ends = [t for t in tensors if fits(t)]
        x = draw(st.sampled_from(open_ends))
        kind = draw(
            st.sampled_from(["conv", "shared", "concat", "nested", "norm", "op"])
        )
        if kind == "conv":
            x = conv()(x)
        elif kind == "shared":
            key = x.shape[-1]
            if key not in shared:
                shared[key] = layers.Conv2D(key, 3, padding="same")
            x = shared[key](x)
        elif kind == "concat":
            others = [t for t in tensors if t.shape[1:3] == x.shape[1:3]]
            x = layers.Concatenate()([x, draw(st.sampled_from(others))])
        elif kind == "nested":
            inner = keras.Input(x.shape[1:])
            y = conv()(inner)
            if draw(st.booleans()):
                net = keras.Model(inner, layers.BatchNormalization()(y))
                x = net(x)
            else:
                x = keras.Sequential([keras.Input(x.shape[1:]), conv()])(x)
        elif kind == "norm":
            x = layers.MaxPooling2D(2, 1)(layers.BatchNormalization()(x))
        else:
            x = ops.tanh(x) * 0.5 + x
        tensors.append(x)
    ends = [layers.GlobalAveragePooling2D()(t) for t in tensors[-2:]]
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(ends)))


@pytest.mark.slow
@settings(max_examples=25)
@given(draws=st.data(), seed=st.integers(0, 99), share=st.floats(0.1, 0.9))
def test_random_graphs_keep_their_outputs_all_the_way(
    draws, seed, share, tmp_path_factory
):
    model, rng = random_graph(draws.draw), np.random.default_rng(seed)
    x = data(model, 2, seed)
    sparse = sparsify(model, copy=True)
    np.testing.assert_array_equal(sparse(x), model(x))
    set_masks(sparse, rng, share)
    # Brute force: zeros written into the user's own kernels, found by path.
    masked = [y for y in leaves(sparse) if isinstance(y, MaskedLayer)]
    stock = [y for y in leaves(model) if type(y) in (layers.Dense, layers.Conv2D)]
    assert [y.name for y in masked] == [y.name for y in stock]
    for a, b in zip(masked, stock, strict=True):
        b.kernel.assign(b.kernel * (a.kernel_mask.variable.numpy() > 0))
    np.testing.assert_array_equal(sparse(x), model(x))
    sparse.compile("sgd", "mse", run_eagerly=True)  # no graph for each of many models
    sparse.train_on_batch(x, keras.tree.map_structure(ops.zeros_like, sparse(x)))
    expected = sparse(x)
    path = tmp_path_factory.mktemp("graph") / "m.keras"
    for net in (strip_masks(sparse, copy=True), sparse, strip_masks(sparse)):
        np.testing.assert_array_equal(net(x), expected)
        net.save(path)
        np.testing.assert_array_equal(keras.models.load_model(path)(x), expected)
