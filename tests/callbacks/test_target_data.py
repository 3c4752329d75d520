"""Data that tell `TargetSparsity` nothing, and those that do so late."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from scl_keras import MaskedDense, SCLSequential, TargetSparsity, find_masks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 8)).astype("float32")
Y = X[:, :2]


def _model(optimizer="adam"):
    keras.utils.set_random_seed(0)
    dense = MaskedDense(2, dtype="float32")
    model = SCLSequential([keras.Input((8,)), MaskedDense(16), dense])
    model.compile(optimizer, "mse")
    return model


def _fit(model, x=X, epochs=3):
    return model.fit(x, Y, 32, epochs, verbose=0, callbacks=[TargetSparsity(0.5)])


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("kind", ["filtered", "taken", "arrays"])
def test_no_data_are_told_of(kind):
    model = _model()
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    empty = {
        "filtered": [batches.filter(lambda x, y: tf.reduce_any(tf.math.is_nan(x)))],
        "taken": [batches.take(0)],
        "arrays": [X[:0], Y[:0]],
    }
    options = {"epochs": 3, "shuffle": False, "verbose": 0}
    with pytest.raises(ValueError, match="there are no data: it had no batch"):
        model.fit(*empty[kind], **options, callbacks=[TargetSparsity(0.5)])
    assert sum(int(mask.count()) for mask in find_masks(model)) == 160  # all


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.usefixtures("mixed_float16")
def test_a_loss_scale_may_be_found_for_some_epochs():
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(), initial_scale=2.0**22
    )
    model = _model(scaled)
    history = _fit(model, epochs=18).history
    skipped = history["skipped_updates"]
    assert skipped[1] == 2 and skipped[-1] < 12
    assert sum(int(mask.count()) for mask in find_masks(model)) == 80


@pytest.mark.slow
@pytest.mark.usefixtures("mixed_float16")
def test_under_loss_scaling_too_batches_that_are_all_bad_are_told_of():
    with pytest.raises(ValueError, match="NaN or infinite|no batch has updated"):
        _fit(_model(), np.full_like(X, np.nan), epochs=3)
    with pytest.raises(ValueError, match="all of its 1 batches had NaN or infinite"):
        _fit(_model(), np.full_like(X, np.nan), epochs=60)
