import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from scl_keras import MaskedConv2D, MaskedDense, find_masks, sparsify, strip_masks

PAIRS = [(MaskedDense, layers.Dense), (MaskedConv2D, layers.Conv2D)]
DENSE_ARGUMENTS = {
    "units": 5,
    "activation": "tanh",
    "use_bias": True,
    "kernel_initializer": "he_normal",
    "bias_initializer": "ones",
    "kernel_regularizer": "l1",
    "bias_regularizer": "l2",
    "activity_regularizer": "l2",
    "kernel_constraint": "max_norm",
    "bias_constraint": "non_neg",
}
CONV_ARGUMENTS = {
    "filters": 4,
    "kernel_size": (3, 2),
    "strides": (1, 2),
    "padding": "same",
    "data_format": "channels_last",
    "dilation_rate": (1, 1),
    "groups": 2,
    **{k: v for k, v in DENSE_ARGUMENTS.items() if k != "units"},
}


def arguments(stock):
    return DENSE_ARGUMENTS if stock is layers.Dense else CONV_ARGUMENTS


def shape_of(stock):
    return (3, 4) if stock is layers.Dense else (2, 7, 6, 4)


def twins(masked_class, stock_class, shape, **kwargs):
    """A masked layer and the stock one with the same weights, built."""
    ste = kwargs.pop("ste", "identity")
    masked, stock = masked_class(**kwargs, ste=ste), stock_class(**kwargs)
    masked.build((None, *shape[1:]))
    stock.build((None, *shape[1:]))
    stock.set_weights(masked.get_weights()[: len(stock.weights)])
    return masked, stock


def step(layer, x, jit=False):
    @tf.function(jit_compile=jit)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(tf.sin(outputs)) + sum(layer.losses)
        variables = [v.value for v in layer.trainable_weights]
        return outputs, loss, *tape.gradient(loss, [x, *variables])

    return [value.numpy() for value in run(tf.constant(x))]


@pytest.mark.parametrize(("masked", "stock"), PAIRS)
def test_it_takes_the_stock_layers_arguments_in_their_order(masked, stock):
    signature = list(inspect.signature(stock).parameters)
    given_arguments = arguments(stock)
    assert [n for n in signature if n in given_arguments] == list(given_arguments)
    rest = set(signature) - set(given_arguments)
    assert rest <= {"lora_rank", "lora_alpha", "quantization_config", "kwargs"}
    positional = masked(*given_arguments.values(), name="x")
    expected = stock(*given_arguments.values(), name="x").get_config()
    config = positional.get_config()
    assert {k: config[k] for k in expected} == expected
    ours = {"granularity", "mask_dtype", "mask_initializer", "ste"}
    assert set(config) - set(expected) == ours
    again = masked.from_config(config)
    assert again.get_config() == config


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("masked", "stock"), PAIRS)
def test_with_every_argument_set_it_is_the_stock_layer_bit_for_bit(
    masked, stock, jit, rng
):
    shape = shape_of(stock)
    a, b = twins(masked, stock, shape, **arguments(stock))
    x = rng.normal(size=shape).astype("float32")
    got, expected = step(a, x, jit), step(b, x, jit)
    for value, other in zip(got, expected, strict=False):  # got has the mask's, too
        np.testing.assert_array_equal(value, other)
    assert len(got) == len(expected) + 1


@settings(max_examples=25)
@given(
    filters=st.sampled_from([2, 4]),
    kernel_size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    groups=st.sampled_from([1, 2]),
    use_bias=st.booleans(),
    activation=st.sampled_from([None, "relu", "softmax"]),
    kept=st.sampled_from([0.0, 0.3, 1.0]),
    ste=st.sampled_from(["identity", "leaky_relu", "softplus"]),
    seed=st.integers(0, 99),
)
def test_any_convolution_equals_the_stock_one_with_zeros_written_in(
    filters,
    kernel_size,
    strides,
    dilation,
    padding,
    groups,
    use_bias,
    activation,
    kept,
    ste,
    seed,
):
    rng = np.random.default_rng(seed)
    a, b = twins(
        MaskedConv2D,
        layers.Conv2D,
        (2, 7, 6, 4),
        filters=filters,
        kernel_size=kernel_size,
        strides=1 if dilation > 1 else strides,
        dilation_rate=dilation,
        padding=padding,
        groups=groups,
        use_bias=use_bias,
        activation=activation,
        ste=ste,
    )
    check_masked_equals_zeroed(a, b, rng, (2, 7, 6, 4), kept)


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    units=st.integers(1, 5),
    use_bias=st.booleans(),
    activation=st.sampled_from([None, "relu", "gelu"]),
    kept=st.sampled_from([0.0, 0.3, 1.0]),
    ste=st.sampled_from(["identity", "leaky_relu", "softplus"]),
    seed=st.integers(0, 99),
)
def test_any_dense_layer_equals_the_stock_one_with_zeros_written_in(
    shape, units, use_bias, activation, kept, ste, seed
):
    rng = np.random.default_rng(seed)
    kwargs = {"units": units, "use_bias": use_bias, "activation": activation}
    a, b = twins(MaskedDense, layers.Dense, shape, ste=ste, **kwargs)
    check_masked_equals_zeroed(a, b, rng, shape, kept)


def eager_step(layer, x, variables):
    with tf.GradientTape() as tape:
        outputs = layer(x)
        loss = tf.reduce_sum(tf.sin(outputs))
    return outputs, tape.gradient(loss, [v.value for v in variables])


def check_masked_equals_zeroed(masked, stock, rng, shape, share):
    x = rng.normal(size=shape).astype("float32")
    v = masked.kernel.numpy()
    s = rng.uniform(0.01, 1, v.shape) * np.where(rng.random(v.shape) < share, 1, -1)
    masked.kernel_mask.variable.assign(s)
    s = masked.kernel_mask.variable.numpy()
    stock.kernel.assign(v * (s > 0))
    variables = [masked.kernel, masked.kernel_mask.variable]
    outputs, (dv, ds) = eager_step(masked, x, variables)
    expected, (dw,) = eager_step(stock, x, [stock.kernel])
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(dv, np.where(s > 0, dw, 0))
    proxy = {
        "Identity": np.ones_like(s),
        "LeakyReLU": np.where(s > 0, 1, 0.1),
        "Softplus": 1 / (1 + np.exp(-s)),
    }[type(masked.ste).__name__]
    np.testing.assert_allclose(ds, dw.numpy() * v * proxy, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("masked", "stock"), PAIRS)
def test_the_penalty_is_that_of_a_stock_kernel_with_zeros(masked, stock, rng):
    shape = shape_of(stock)
    a, b = twins(masked, stock, shape, **arguments(stock))
    a.kernel_mask.assign(rng.random(a.kernel.shape) < 0.5)
    b.kernel.assign(a.masked_kernels()["kernel"])
    x = rng.normal(size=shape).astype("float32")
    a(x), b(x)
    assert len(a.losses) == len(b.losses) == 3
    np.testing.assert_array_equal(a.losses, b.losses)


def test_the_penalty_moves_kept_values_and_masks_but_no_cut_value(rng):
    layer = MaskedDense(3, kernel_regularizer=keras.regularizers.L2(0.1))
    layer.build((None, 4))
    kept = rng.random((4, 3)) < 0.5
    layer.kernel_mask.assign(kept)
    v, s = layer.kernel, layer.kernel_mask.variable
    with tf.GradientTape() as tape:
        loss = layer.losses[0]
    dv, ds = tape.gradient(loss, [v.value, s.value])
    np.testing.assert_allclose(dv, 0.2 * v.numpy() * kept, rtol=1e-5)
    np.testing.assert_allclose(ds, 0.2 * v.numpy() ** 2 * kept, rtol=1e-5)


@pytest.mark.parametrize("name", ["max_norm", "unit_norm", "non_neg"])
def test_a_constraint_leaves_cut_connections_alone_in_training(name, rng):
    model = keras.Sequential(
        [keras.Input((4,)), MaskedDense(3, kernel_constraint=name)]
    )
    layer = model.layers[-1]
    v = 3 * rng.normal(size=(4, 3)).astype("float32")
    kept = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 1, 1]])
    layer.kernel.assign(v)
    layer.kernel_mask.assign(kept)
    keras.optimizers.SGD(0.0).apply([np.zeros((4, 3), "float32")], [layer.kernel])
    after = layer.kernel.numpy()
    expected = keras.constraints.get(name)(keras.ops.array(v * kept))
    np.testing.assert_array_equal(after[kept == 0], v[kept == 0])
    np.testing.assert_allclose(after[kept == 1], expected.numpy()[kept == 1], rtol=1e-6)


def test_channels_first_has_the_stock_layers_shapes():
    kwargs = {"filters": 4, "kernel_size": 3, "data_format": "channels_first"}
    a, b = MaskedConv2D(**kwargs), layers.Conv2D(**kwargs)
    assert a(keras.Input((2, 9, 8))).shape == b(keras.Input((2, 9, 8))).shape
    assert a.get_config()["data_format"] == "channels_first"
    assert a.kernel_mask.variable.shape == b.kernel.shape == (3, 3, 2, 4)


@pytest.mark.parametrize("frozen", ["at once", "later"])
def test_a_frozen_layer_freezes_its_mask_too(frozen):
    layer = MaskedDense(3, trainable=frozen != "at once")
    model = keras.Sequential([keras.Input((4,)), layer, MaskedDense(2)])
    if frozen == "later":
        layer.trainable = False
    assert layer.trainable_weights == []
    assert len(layer.weights) == 3
    assert len(model.trainable_variables) == 3
    layer.trainable = True
    assert len(model.trainable_variables) == 6


@pytest.mark.parametrize(("masked", "stock"), PAIRS)
def test_masked_models_convert_to_tflite_as_stripped_ones(masked, stock, rng, tmp_path):
    shape = (1, *shape_of(stock)[1:])
    kwargs = {k: v for k, v in arguments(stock).items() if "regularizer" not in k}
    kwargs |= {"groups": 1} if "groups" in kwargs else {}
    model = keras.Sequential([keras.Input(shape[1:], batch_size=1), masked(**kwargs)])
    (mask,) = find_masks(model)
    mask.assign(rng.random(mask.variable.shape) < 0.5)
    x = rng.normal(size=shape).astype("float32")
    nets = {"masked": model, "stripped": strip_masks(model, copy=True)}
    outputs = [run_tflite(net, x, tmp_path / name) for name, net in nets.items()]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs[0], model(x), rtol=1e-5, atol=1e-6)


def run_tflite(model, x, folder):
    model.export(folder, verbose=False)
    file = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def lora_model(when, **kwargs):
    at_once = {"lora_rank": 2} if when == "at build" else {}
    layer = MaskedDense(3, **at_once, **kwargs)
    if kwargs.pop("conv", False):
        layer = MaskedConv2D(3, 2, **at_once)
    model = keras.Sequential([keras.Input((4,)), layer])
    if when == "later":
        layer.enable_lora(2)
    return model, layer


@pytest.mark.parametrize("when", ["at build", "later"])
def test_lora_is_masked_saved_loaded_and_stripped(when, rng, tmp_path):
    model, layer = lora_model(when, kernel_regularizer="l2")
    kept = rng.random((4, 3)) < 0.5
    layer.kernel_mask.assign(kept)
    layer.lora_kernel_b.assign(rng.normal(size=(2, 3)))
    merged = layer._kernel + layer.lora_kernel_a @ layer.lora_kernel_b
    x = rng.normal(size=(5, 4)).astype("float32")
    expected = x @ (merged.numpy() * kept)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(loaded.layers[-1].kernel_mask.variable > 0, kept)
    np.testing.assert_array_equal(sparsify(model, copy=True)(x), model(x))
    for net in (model, loaded):
        stripped = strip_masks(net, copy=True)
        assert type(stripped.layers[-1]) is layers.Dense
        np.testing.assert_allclose(stripped(x), expected, rtol=1e-5, atol=1e-6)
        assert np.all(stripped.layers[-1].kernel.numpy()[~kept] == 0)


def test_quantizing_a_masked_layer_is_refused_and_changes_nothing(rng):
    model = keras.Sequential([keras.Input((4,)), MaskedDense(3)])
    model.layers[-1].kernel_mask.assign(rng.random((4, 3)) < 0.5)
    x = rng.normal(size=(2, 4)).astype("float32")
    before = model(x).numpy()
    with pytest.raises(ValueError, match="has masks, and Keras's quantized"):
        model.layers[-1].quantize("int8")
    np.testing.assert_array_equal(model(x), before)


@pytest.mark.parametrize("name", ["MaskedDense", "MaskedConv2D"])
def test_a_weights_file_holds_masks_of_two_layers_apart(name, rng, tmp_path):
    def make():
        if name == "MaskedDense":
            return keras.Sequential([keras.Input((4,)), MaskedDense(4), MaskedDense(4)])
        convs = [MaskedConv2D(2, 2, padding="same") for _ in range(2)]
        return keras.Sequential([keras.Input((5, 5, 2)), *convs])

    model, other = make(), make()
    for mask in find_masks(model):
        mask.variable.assign(rng.uniform(-1, 1, mask.variable.shape))
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_keep_the_values_of_cut_connections(tmp_path):
    model = keras.Sequential([keras.Input((5,)), MaskedDense(4)])
    layer = model.layers[0]
    layer.kernel_mask.assign(np.zeros((5, 4)))
    before = layer.kernel.numpy()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.layers[0].kernel.numpy(), before)
