"""Mask variables in bfloat16: half the memory, and the same way to the target."""

import keras
import numpy as np
import pytest

import scl_keras
from scl_keras.architectures import lenet_300_100
from scl_keras.datasets import load_dataset

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def small_network():
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def some_data(rng):
    x = rng.normal(size=(48, 6, 6, 1)).astype("float32")
    return x, rng.integers(0, 3, 48)


def test_masks_and_their_gradients_are_half_as_large(rng):
    x, y = some_data(rng)
    model = scl_keras.sparsify(small_network(), mask_dtype="bfloat16")
    momentum = keras.optimizers.SGD(3e-3, momentum=0.9)
    model.compile("adam", LOSS, mask_optimizer=momentum, connection_cost=0.1)
    model.fit(x, y, verbose=0)
    for mask in scl_keras.find_masks(model):
        assert mask.variable.dtype == "bfloat16"
        gradients = model.mask_optimizer.variables
        slots = [v for v in gradients if v.shape == mask.variable.shape]
        assert slots and all(v.dtype == "bfloat16" for v in slots)
    values = [w for w in model.weights if not hasattr(w, "connection_mask")]
    assert all(w.dtype == "float32" for w in values)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_an_update_is_that_of_float32_up_to_rounding(jit, rng):
    x, y = some_data(rng)
    dense, found = small_network(), {}
    for dtype in ("float32", "bfloat16"):
        model = scl_keras.sparsify(dense, mask_dtype=dtype, copy=True)
        model.compile(
            keras.optimizers.SGD(0.1), LOSS, jit_compile=jit, connection_cost=0.1
        )
        model.fit(x, y, batch_size=48, epochs=1, verbose=0)
        found[dtype] = [mask.values() for mask in scl_keras.find_masks(model)]
    for exact, rounded in zip(*found.values(), strict=True):
        assert (exact != np.float32(0.03)).any()
        # 0.03 lies where bfloat16 has steps of 2^-13.
        np.testing.assert_allclose(rounded, exact, rtol=0, atol=2**-12)


@pytest.mark.slow
def test_the_target_is_met_with_the_accuracy_of_float32():
    data, accuracy = load_dataset("digits"), {}
    for dtype in ("float32", "bfloat16"):
        keras.utils.set_random_seed(3)
        dense = lenet_300_100(data.input_shape, data.num_classes)
        model = scl_keras.sparsify(dense, mask_dtype=dtype, copy=True)
        model.compile("adam", LOSS, metrics=["accuracy"], connection_cost=0.1)
        target = scl_keras.TargetSparsity(0.97)
        train = data.x_train, data.y_train
        model.fit(*train, 64, epochs=24, callbacks=[target], verbose=0)
        masks = scl_keras.find_masks(model)
        kept = sum(int(mask.count()) for mask in masks)
        assert kept == round(0.03 * sum(mask.size for mask in masks))
        result = model.evaluate(data.x_test, data.y_test, return_dict=True, verbose=0)
        accuracy[dtype] = result["accuracy"]
    assert min(accuracy.values()) > 0.93
    assert abs(accuracy["float32"] - accuracy["bfloat16"]) < 0.03


def test_a_file_keeps_dtype_and_bits(rng, tmp_path):
    model = scl_keras.sparsify(small_network(), mask_dtype="bfloat16")
    for mask in scl_keras.find_masks(model):
        mask.variable.assign(rng.normal(size=mask.variable.shape) / 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x, _ = some_data(rng)
    pairs = zip(*map(scl_keras.find_masks, (model, loaded)), strict=True)
    for old, new in pairs:
        assert new.variable.dtype == "bfloat16"
        np.testing.assert_array_equal(new.values(), old.values())
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    for other in (
        scl_keras.strip_masks(model, copy=True),
        scl_keras.fix_masks(model, copy=True),
    ):
        np.testing.assert_allclose(other.predict(x), model.predict(x), atol=1e-6)


def test_the_last_connection_is_down_to_last():
    layer = scl_keras.MaskedDense(2, mask_dtype="bfloat16")
    layer.build((None, 3))
    mask = layer.kernel_mask
    values = np.full((3, 2), -0.5)
    values[1, 1] = -0.25
    mask.variable.assign(mask.variable.constraint(keras.ops.cast(values, "bfloat16")))
    assert mask.is_down_to_last() is True  # for JSON, not one of NumPy
    assert np.argwhere(mask.values() > 0).tolist() == [[1, 1]]


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match=r"'bfloat16'.*Received: mask_dtype='float16'"):
        scl_keras.MaskedDense(2, mask_dtype="float16")
    with pytest.raises(ValueError, match="mask_dtype=16"):
        scl_keras.sparsify(small_network(), mask_dtype=16)
