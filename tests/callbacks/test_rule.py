"""The default rule: where masks start, how their rate falls, when they rest."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scl_keras import (
    ConnectionCostScheduler,
    SwitcherModel,
    TargetSparsity,
    find_masks,
    sparsify,
    thaw_masks,
)
from scl_keras.masks import start_from_magnitudes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 12)).astype("float32")
Y = (X @ RNG.normal(size=(12, 3))).astype("float32")


def _dense():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3),
        ]
    )


def _sparse(**arguments):
    model = sparsify(_dense(), verbose=0)
    model.compile("adam", "mse", **arguments)
    return model


def _masks(model):
    return [mask.values() for mask in find_masks(model)]


class Watching(keras.callbacks.Callback):
    """Writes down the rate of the masks in each epoch, and where masks start."""

    def on_train_begin(self, logs=None):
        self.rates, self.starts = [], None

    def on_train_batch_begin(self, batch, logs=None):
        self.starts = self.starts or _masks(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(float(self.model.mask_optimizer.learning_rate))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [sparsify, SwitcherModel])
def test_without_a_price_the_model_trains_as_the_dense_one(kind):
    dense, sparse = (
        _dense(),
        kind(_dense(), **({"verbose": 0} if kind is sparsify else {})),
    )
    for model in (dense, sparse):
        model.compile("adam", "mse")
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    for mask in find_masks(sparse):
        np.testing.assert_array_equal(mask.values(), np.float32(0.03))
    expected, found = dense.predict(X, verbose=0), sparse.predict(X, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask_optimizer", [None, "adam"])
def test_masks_move_as_soon_as_there_is_a_price(mask_optimizer):
    model = _sparse(mask_optimizer=mask_optimizer)
    before = _masks(model)
    cost = ConnectionCostScheduler(lambda epoch, cost: 0.2 if epoch else cost)
    model.fit(X, Y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, _masks(model), strict=True))
    model.fit(X, Y, initial_epoch=1, epochs=2, verbose=0, callbacks=[cost])
    assert all(np.all(a != b) for a, b in zip(before, _masks(model), strict=True))


def test_a_file_keeps_that_there_is_no_price(tmp_path):
    model = _sparse()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.scl_optimizer.get_config()["connection_cost"] is None
    before = _masks(loaded)
    loaded.fit(X, Y, verbose=0)
    for a, b in zip(before, _masks(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_rate_falls_by_a_cosine_and_is_there_again_afterwards():
    model, watching = _sparse(), Watching()
    callbacks = [watching, TargetSparsity(0.7, by_epoch=4)]
    model.fit(X, Y, 8, epochs=6, verbose=0, callbacks=callbacks)
    expected = [0.003 * (1 + math.cos(math.pi * e / 4)) / 2 for e in (1, 2, 3)]
    np.testing.assert_allclose(watching.rates[:3], expected, atol=1e-5)
    np.testing.assert_allclose(watching.rates[4:], 0.003, rtol=1e-6)
    thaw_masks(model)
    before = _masks(model)
    model.fit(X, Y, verbose=0)
    moved = [np.any(a != b) for a, b in zip(before, _masks(model), strict=True)]
    assert any(moved)


def test_on_a_longer_way_the_rate_falls_later():
    model, watching = _sparse(), Watching()
    callbacks = [watching, TargetSparsity(compression=60, by_epoch=4)]
    model.fit(X, Y, 8, epochs=5, verbose=0, callbacks=callbacks)
    begin = 1 - 1 / math.log10(60)  # 0.44
    shares = [max(0, e / 4 - begin) / (1 - begin) for e in (1, 2, 3)]
    expected = [0.003 * (1 + math.cos(math.pi * share)) / 2 for share in shares]
    assert expected[0] == 0.003
    np.testing.assert_allclose(watching.rates[:3], expected, atol=1e-5)


@pytest.mark.parametrize("kept", ["sgd", "schedule"])
def test_the_rate_of_an_optimizer_that_was_given_is_its_own(kept):
    schedule = keras.optimizers.schedules.InverseTimeDecay(0.01, 10, 0.5)
    rate = 0.01 if kept == "sgd" else schedule
    model, watching = _sparse(mask_optimizer=keras.optimizers.SGD(rate)), Watching()
    callbacks = [watching, TargetSparsity(0.7)]
    model.fit(X, Y, 8, epochs=3, verbose=0, callbacks=callbacks)
    ends = [0.01] * 3 if kept == "sgd" else [schedule(12 * e) for e in (1, 2, 3)]
    np.testing.assert_allclose(watching.rates, ends, rtol=1e-5)
    assert sum(int(m.count()) for m in find_masks(model)) == round(0.3 * 240)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["magnitudes", None])
def test_masks_start_from_magnitudes_unless_they_should_not(start):
    model, watching = _sparse(), Watching()
    expected = _sparse()
    if start:
        start_from_magnitudes(find_masks(expected))
    callbacks = [TargetSparsity(0.5, start=start), watching]
    model.fit(X, Y, verbose=0, callbacks=callbacks)
    for a, b in zip(watching.starts, _masks(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="'magnitudes', None.*start='random'"):
        TargetSparsity(0.5, start="random")


def test_a_last_batch_of_one_sample_moves_masks_no_more_than_others():
    """By the root mean square of what each step moves, beside the price."""
    model = _sparse(connection_cost=0.0, mask_optimizer=keras.optimizers.SGD(1e-4))
    x, y = np.concatenate([X, 10 * X[:1]]), np.concatenate([Y, -30 * Y[:1]])
    steps = []

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.before = np.concatenate([s.ravel() for s in _masks(self.model)])

        def on_train_batch_end(self, batch, logs=None):
            after = np.concatenate([s.ravel() for s in _masks(self.model)])
            steps.append(np.sqrt(np.mean((after - self.before) ** 2)))

    model.fit(x, y, 32, epochs=2, shuffle=False, verbose=0, callbacks=[Steps()])
    assert len(steps) == 8
    assert max(steps) < 1.01e-4  # the rate, for gradients of one
    assert steps[4] > 0.2 * steps[2]  # what comes after isn't held back by it


# Keras says so of every generator, at the end of its first epoch.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("cost", [None, 0.1])
def test_masks_rest_while_the_length_of_data_is_unknown_if_there_is_no_price(cost):
    def batches():
        for i in range(0, 96, 8):
            yield X[i : i + 8], Y[i : i + 8]

    data = tf.data.Dataset.from_generator(
        batches,
        output_signature=(tf.TensorSpec((8, 12)), tf.TensorSpec((8, 3))),
    )
    model, seen = _sparse(connection_cost=cost), []
    watching = Watching()
    epochs = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(_masks(model))
    )
    callbacks = [watching, TargetSparsity(0.7), epochs]
    model.fit(data, epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
    rested = [
        np.array_equal(a, b) for a, b in zip(watching.starts, seen[0], strict=True)
    ]
    assert all(rested) == (cost is None)
    assert sum(int(m.count()) for m in find_masks(model)) == round(0.3 * 240)
    # From where it is known: three epochs until the fourth one ends. (On JAX, Keras
    # drops what a callback assigns after the last batch of such data.)
    expected = [0.003 * (1 + math.cos(math.pi * e / 3)) / 2 for e in (0, 1, 2)]
    np.testing.assert_allclose(watching.rates[:3], expected, atol=2e-4)
