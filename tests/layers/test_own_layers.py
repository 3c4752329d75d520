import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from maskable_layers import Bottleneck, MaskedBottleneck

from scl_keras import (
    MaskedDense,
    MaskedKernel,
    MaskedLayer,
    find_masks,
    sparsify,
    strip_masks,
    unmasked_layers,
)


@keras.saving.register_keras_serializable("test_own_layers")
class Plain(layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 3), regularizer="l2")

    def call(self, x):
        return ops.matmul(x, self.kernel)


@keras.saving.register_keras_serializable("test_own_layers")
class MaskedPlain(MaskedLayer, Plain):
    kernel = MaskedKernel()


def random_masks(model, rng):
    kept = [rng.random(mask.variable.shape) < 0.6 for mask in find_masks(model)]
    for mask, values in zip(find_masks(model), kept, strict=True):
        mask.assign(values)
    return kept


@pytest.mark.parametrize("make", [Plain, lambda: Bottleneck(5, 2)])
def test_it_is_sparsified_saved_loaded_and_stripped(make, rng, tmp_path):
    stock = keras.Sequential([keras.Input((4,)), make(), layers.Dense(2)])
    x = rng.normal(size=(7, 4)).astype("float32")
    model = sparsify(stock)
    np.testing.assert_array_equal(model(x), stock(x))
    assert unmasked_layers(model) == []
    kept = random_masks(model, rng)
    kernels = [w for w in stock.weights if len(w.shape) == 2]
    for kernel, values in zip(kernels, kept, strict=True):
        kernel.assign(kernel * values)
    np.testing.assert_array_equal(model(x), stock(x))
    model.save(tmp_path / "masked.keras")
    loaded = keras.models.load_model(tmp_path / "masked.keras")
    np.testing.assert_array_equal(loaded(x), stock(x))
    for a, b in zip(find_masks(loaded), kept, strict=True):
        np.testing.assert_array_equal(a.variable > 0, b)
    stripped = strip_masks(loaded)
    assert [type(layer) for layer in stripped.layers[-2:]] == list(
        map(type, stock.layers)
    )
    np.testing.assert_array_equal(stripped(x), stock(x))
    assert find_masks(stripped) == []


def test_each_of_two_kernels_has_its_own_mask_and_gradient(rng):
    layer, stock = MaskedBottleneck(5, 2, ste="leaky_relu"), Bottleneck(5, 2)
    x = tf.constant(rng.normal(size=(7, 4)).astype("float32"))
    layer(x), stock(x)
    random_masks(layer, rng)
    names = ["squeeze", "expand"]
    v = {name: getattr(layer, name).numpy() for name in names}
    s = {name: layer.mask_of(name).variable.numpy() for name in names}
    for name in names:
        getattr(stock, name).assign(v[name] * (s[name] > 0))
        np.testing.assert_array_equal(
            layer.masked_kernels()[name], getattr(stock, name)
        )
    with tf.GradientTape(persistent=True) as tape:
        masked, expected = [tf.reduce_sum(net(x) ** 2) for net in (layer, stock)]
    assert float(masked) == float(expected)
    for name in names:
        dw = tape.gradient(expected, getattr(stock, name).value)
        dv = tape.gradient(masked, getattr(layer, name).value)
        ds = tape.gradient(masked, layer.mask_of(name).variable.value)
        np.testing.assert_allclose(dv, dw * (s[name] > 0), rtol=1e-6)
        np.testing.assert_allclose(
            ds, dw * v[name] * np.where(s[name] > 0, 1, 0.1), rtol=1e-5
        )


def test_the_regularizer_of_a_plain_kernel_sees_the_masked_one(rng):
    layer = MaskedPlain()
    layer.build((None, 4))
    (kept,) = random_masks(layer, rng)
    expected = 0.01 * np.sum(np.square(layer.kernel.numpy() * kept))
    np.testing.assert_allclose(layer.losses[0], expected, rtol=1e-6)


def test_a_layer_that_holds_masked_layers_can_call_them(rng, tmp_path):
    @keras.saving.register_keras_serializable("test_own_layers")
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = MaskedDense(3)

        def build(self, input_shape):
            self.dense.build(input_shape)

        def call(self, x):
            return self.dense(x)

    model = keras.Sequential([keras.Input((4,)), Block()])
    random_masks(model, rng)
    x = rng.normal(size=(2, 4)).astype("float32")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    with pytest.raises(ValueError, match=r"makes it for itself.*kernel_mask"):
        strip_masks(model)
    # `sparsify` leaves what is masked already as it is.
    np.testing.assert_array_equal(sparsify(model)(x), model(x))


def test_a_subclass_of_a_stock_layer_is_not_taken_for_it():
    class MyDense(layers.Dense):
        def call(self, x):
            return super().call(x) * 2

    model = keras.Sequential([keras.Input((4,)), MyDense(3, name="mine")])
    assert [layer.name for layer in unmasked_layers(sparsify(model))] == ["mine"]


def test_a_masked_layers_own_call_may_call_the_stock_one(rng):
    class Doubled(MaskedDense):
        def call(self, x):
            return 2 * super().call(x)

    layer = Doubled(3)
    x = rng.normal(size=(2, 4)).astype("float32")
    layer(x)
    (kept,) = random_masks(layer, rng)
    expected = 2 * (x @ (layer.kernel.numpy() * kept))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_masks_are_off_again_after_a_call_that_raised():
    layer = MaskedDense(3)
    layer.build((None, 4))
    layer.kernel_mask.assign(np.zeros((4, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        layer.call(tf.ones((2, 5)))
    assert layer.kernel is layer._kernel
