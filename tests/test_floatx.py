"""Whatever `keras.config.floatx()` is: what is counted and computed here has its own.

Under a float type of 16 bits, Keras makes integers of 16 bits, too, where it is given
no dtype.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from scl_keras import (
    ConnectionGraph,
    SwitcherModel,
    compact,
    find_masks,
    prune,
    sparsify,
    summary,
)

IN_FLOAT64 = keras.backend.backend() == "tensorflow"
# JAX has no float64 of its own: Keras warns of it in each of its own layers.
FLOATS = ["bfloat16", "float16"] + ["float64"] * IN_FLOAT64


@pytest.fixture(params=FLOATS)
def floatx(request):
    set_default(request.param)
    yield request.param
    set_default("float32")


def set_default(name):
    # The policy follows the float type only until it is first asked for.
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)


def convolutional(dtype=None):
    """Of all that is followed in another way: kernels, pooling, sums, operations."""
    inputs = keras.Input((8, 8, 3), dtype=dtype)
    x = layers.Conv2D(6, 3, padding="same", dtype=dtype)(inputs)
    x = layers.ReLU(dtype=dtype)(layers.BatchNormalization(dtype=dtype)(x))
    x = layers.Add(dtype=dtype)([x, layers.Conv2D(6, 1, dtype=dtype)(x)])
    x = layers.UpSampling2D(interpolation="bilinear", dtype=dtype)(x)
    x = layers.DepthwiseConv2D(3, dtype=dtype)(layers.MaxPooling2D(dtype=dtype)(x))
    x = ops.sigmoid(layers.LayerNormalization(dtype=dtype)(x))
    x = layers.Dense(200, "relu", dtype=dtype)(layers.Flatten(dtype=dtype)(x))
    return keras.Model(inputs, layers.Dense(3, dtype=dtype)(x))


def fill(model, rng):
    """Gives a model weights that are rounded alike in all dtypes, and dead units."""
    for w in model.weights:
        values = rng.integers(-8, 9, w.shape) / 8
        if "variance" in w.path:
            values = np.ones(w.shape)
        elif len(w.shape) > 1:
            values[..., : w.shape[-1] // 3] = 0
        w.assign(values)
    return model


def data(rng, count=24):
    x = rng.integers(-2, 3, (count, 8, 8, 3)).astype("float32")
    return x, rng.integers(0, 3, count)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32")


def in_float32(compute):
    """What a function computes where float32 is the default, and here."""
    here = keras.config.floatx()
    set_default("float32")
    try:
        keras.utils.set_random_seed(0)
        expected = compute()
    finally:
        set_default(here)
    keras.utils.set_random_seed(0)
    return expected, compute()


def assert_same(expected, found):
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_the_same_connections_are_effective(floatx):
    def compute():
        model = fill(convolutional(), np.random.default_rng(0))
        assert "%" in str(summary(model))
        return ConnectionGraph(model).effective()

    assert_same(*in_float32(compute))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["magnitude", "lamp", "snip", "synflow"])
def test_the_same_connections_are_pruned(floatx, method):
    def compute():
        model = fill(convolutional("float32"), np.random.default_rng(0))
        x, y = data(np.random.default_rng(1))
        given = {"data": (x, y), "loss": LOSS} if method == "snip" else {}
        # Beyond 2 ** 15 connections, indices of 16 bits would overflow.
        assert model.count_params() > 2**15
        prune(model, method, 0.3, **given)
        return [mask.kept("bool") for mask in find_masks(model)]

    assert_same(*in_float32(compute))


def test_compacted_it_has_the_same_units(floatx, rng):
    def compute():
        model = fill(convolutional(), np.random.default_rng(0))
        model.layers[1].bias.assign([0, 0, 1, 1, 1, 1])
        return model, compact(model)

    (_, expected), (model, small) = in_float32(compute)
    assert [w.shape for w in small.weights] == [w.shape for w in expected.weights]
    assert small.count_params() < model.count_params()
    assert {w.dtype for w in small.weights} == {floatx}
    x, _ = data(rng)
    a, b = (
        ops.convert_to_numpy(ops.cast(net(ops.cast(x, floatx)), "float32"))
        for net in (model, small)
    )
    rounding = {"bfloat16": 2**-8, "float16": 2**-11, "float64": 2**-53}[floatx]
    np.testing.assert_allclose(a, b, atol=8 * rounding * np.abs(a).max())


def trained(make=sparsify, **settings):
    inputs = keras.Input((6,), dtype="float32")
    x = layers.Dense(64, "relu", dtype="float32")(inputs)
    model = keras.Model(inputs, layers.Dense(3, dtype="float32")(x))
    fill(model, np.random.default_rng(0))
    model = make(model, **settings)
    model.compile(keras.optimizers.SGD(0.125), LOSS, connection_cost=0.5)
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (32, 6)).astype("float32")
    model.fit(x, rng.integers(0, 3, 32), batch_size=16, epochs=2, verbose=0)
    return [mask.values() for mask in find_masks(model)]


@pytest.mark.parametrize("granularity", ["connection", "channel"])
def test_the_same_masks_are_learned(floatx, granularity):
    expected, found = in_float32(lambda: trained(granularity=granularity))
    for a, b in zip(expected, found, strict=True):
        # Keras keeps learning rates in that type.
        np.testing.assert_allclose(a, b, atol=0.03 * 2**-8)


@pytest.mark.slow
def test_the_same_masks_are_switched(floatx):
    expected, found = in_float32(lambda: trained(SwitcherModel))
    for a, b in zip(expected, found, strict=True):
        # Keras keeps learning rates in that type.
        np.testing.assert_allclose(a, b, atol=0.03 * 2**-8)


def test_a_model_of_that_type_is_trained(floatx, rng):
    model = sparsify(convolutional())
    model.compile("adam", LOSS, connection_cost=1.0)
    x, y = data(rng)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert all(np.isfinite(mask.values()).all() for mask in find_masks(model))
