import keras
import numpy as np
import pytest
import tensorflow as tf

from scl_keras import MaskedConv2D, MaskedDense, MaskedKernel, MaskedLayer, find_masks

DENSE = (MaskedDense, keras.layers.Dense, (3, 6))
CONV = (MaskedConv2D, keras.layers.Conv2D, (2, 9, 8, 4))
CASES = [
    (*DENSE, (5, "relu"), {}),
    (*DENSE, (5,), {"use_bias": False, "kernel_initializer": "he_normal"}),
    (*DENSE, (5,), {"bias_regularizer": "l2", "activity_regularizer": "l1"}),
    (*CONV, (6, 3), {}),
    (*CONV, (6, (3, 2), (2, 1), "same"), {"activation": "relu"}),
    (*CONV, (6, 3), {"groups": 2, "use_bias": False}),
    (*CONV, (6, 3), {"dilation_rate": 2, "bias_constraint": "non_neg"}),
]


def _pair(masked_class, stock_class, shape, args, kwargs):
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    masked, stock = masked_class(*args, **kwargs), stock_class(*args, **kwargs)
    masked.build(shape)
    stock.build(shape)
    stock.set_weights(masked.get_weights()[: len(stock.weights)])
    return masked, stock, x


def _gradients(layer, x, variables, jit):
    @tf.function(jit_compile=jit)
    def run():
        with tf.GradientTape() as tape:
            outputs = layer(x)
            loss = tf.reduce_sum(tf.sin(outputs)) + sum(layer.losses)
        return outputs, tape.gradient(loss, [v.value for v in variables])

    return run()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_with_all_masks_on_it_is_the_stock_layer_bit_for_bit(case, jit):
    masked, stock, x = _pair(*case)
    weights = masked.weights[: len(stock.weights)]
    got, expected = (
        _gradients(masked, x, weights, jit),
        _gradients(stock, x, stock.weights, jit),
    )
    np.testing.assert_array_equal(got[0], expected[0])
    for a, b in zip(got[1], expected[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ste", ["identity", "leaky_relu", "softplus"])
@pytest.mark.parametrize("case", CASES[3:6] + CASES[:1])
def test_gradients_are_those_of_a_stock_layer_with_zeros_written_in(case, ste):
    masked, stock, x = _pair(*case[:4], {**case[4]})
    masked = case[0](*case[3], **case[4], ste=ste)
    masked.build(x.shape)
    masked.set_weights([*stock.get_weights(), masked.kernel_mask.variable.numpy()])
    kept = np.random.default_rng(2).random(masked.kernel.shape) < 0.4
    masked.kernel_mask.assign(kept)
    v = masked.kernel.numpy()
    stock.kernel.assign(v * kept)
    variables = [masked.kernel, masked.kernel_mask.variable]
    outputs, (dv, ds) = _gradients(masked, x, variables, False)
    expected, (dw,) = _gradients(stock, x, [stock.kernel], False)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(dv, dw * kept)
    proxy = masked.ste.derivative(
        keras.ops.convert_to_tensor(np.where(kept, 1, -1).astype("float32"))
    )
    np.testing.assert_allclose(ds, dw * v * proxy, rtol=1e-5)


def test_regularizers_and_constraints_see_the_masked_kernel():
    layer = MaskedDense(3, kernel_regularizer="l2", kernel_constraint="max_norm")
    layer.build((None, 4))
    kept = np.random.default_rng(0).random((4, 3)) < 0.5
    layer.kernel_mask.assign(kept)
    v = 5 * np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    layer.kernel.assign(v)
    np.testing.assert_allclose(layer.losses[0], 0.01 * np.sum((v * kept) ** 2), 1e-6)
    limited = layer.kernel.constraint(layer.kernel)
    np.testing.assert_array_equal(limited[~kept], v[~kept])
    stock = keras.constraints.MaxNorm()(keras.ops.convert_to_tensor(v * kept))
    np.testing.assert_allclose(limited[kept], stock.numpy()[kept], rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("case", [CASES[0], CASES[3]])
def test_mixed_precision_equals_the_stock_layer(case, policy):
    masked, stock, x = _pair(*case[:4], {**case[4], "dtype": policy})
    assert masked.kernel_mask.variable.dtype == "float32"
    assert masked(x).dtype == stock(x).dtype
    np.testing.assert_array_equal(
        tf.cast(masked(x), "float32"), tf.cast(stock(x), "float32")
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_saved_model_comes_back_with_its_masks(case, suffix, tmp_path):
    def make():
        layer = case[0](*case[3], **case[4], ste="softplus", mask_initializer="ones")
        return keras.Sequential([keras.Input(case[2][1:]), layer])

    model = make()
    (mask,) = find_masks(model)
    mask.assign(np.random.default_rng(0).random(mask.variable.shape) < 0.5)
    path = str(tmp_path / f"model{suffix}")
    if suffix == ".keras":
        model.save(path)
        loaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        loaded = make()
        loaded.load_weights(path)
    configs = [m.layers[0].get_config() for m in (loaded, model)]
    assert {**configs[0], "name": ""} == {**configs[1], "name": ""}
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lora_keeps_the_values_of_cut_connections_in_the_file(tmp_path):
    model = keras.Sequential([keras.Input((5,)), MaskedDense(4)])
    layer = model.layers[0]
    layer.kernel_mask.assign(np.zeros((5, 4)))
    before = layer.kernel.numpy()
    model.save(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(str(tmp_path / "model.keras"))
    np.testing.assert_array_equal(loaded.layers[0].kernel.numpy(), before)


@keras.saving.register_keras_serializable("tests")
class TwoKernels(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.a = self.add_weight(name="a", shape=shape)
        self.b = self.add_weight(name="b", shape=shape)

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.a) * keras.ops.matmul(inputs, self.b)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
class MaskedTwoKernels(MaskedLayer, TwoKernels):
    a = MaskedKernel()
    b = MaskedKernel()


def test_ones_own_layer_with_plain_attributes_can_be_masked():
    layer, x = MaskedTwoKernels(3), np.ones((2, 4), "float32")
    layer(x)
    layer.a_mask.assign(np.eye(4, 3))
    a, b = layer.a.numpy(), layer.b.numpy()
    expected = (x @ (a * np.eye(4, 3))) * (x @ b)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    assert [mask.path for mask in find_masks(layer)] == [
        f"{layer.path}/a_mask",
        f"{layer.path}/b_mask",
    ]
