import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from scl_keras import MaskedDense, MaskLogger, SCLModel, find_masks

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 5)).astype("float32"), RNG.normal(size=(64, 3))
KEYS = ["density/first/kernel", "density/second/kernel"]


def _model(**arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = MaskedDense(8, activation="tanh", name="first", mask_initializer=0.02)(inputs)
    x = keras.layers.Dense(4, name="unmasked")(x)
    model = SCLModel(inputs, MaskedDense(3, name="second", mask_initializer=0.02)(x))
    model.compile("adam", "mse", connection_cost=0.5, **arguments)
    return model


class Counts(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        masks = find_masks(self.model)
        self.seen.append([float(np.mean(m.variable.numpy() > 0)) for m in masks])


def test_densities_are_the_counts_and_reach_history_csv_and_tensorboard(tmp_path):
    counts = Counts()
    callbacks = [
        MaskLogger(),
        counts,
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board"),
    ]
    model = _model()
    history = model.fit(X, Y, epochs=4, verbose=0, callbacks=callbacks).history
    logged = np.array([history[key] for key in KEYS]).T
    np.testing.assert_allclose(logged, counts.seen)
    assert logged.min() < logged.max()
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([[float(r[key]) for key in KEYS] for r in rows], logged)
    tags = set()
    for path in (tmp_path / "board" / "train").glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {f"epoch_{key}" for key in KEYS} <= tags
    total = sum(m.size * d for m, d in zip(find_masks(model), logged[-1], strict=True))
    size = sum(mask.size for mask in find_masks(model))
    np.testing.assert_allclose(history["density"][-1], total / size, rtol=1e-6)


@pytest.mark.slow
def test_layers_down_to_last_by_their_last_connection_are_named(capsys):
    model = _model()
    model.fit(X, Y, verbose=0, callbacks=[MaskLogger()])
    assert "Down to" not in capsys.readouterr().out
    find_masks(model)[1].variable.assign(np.full((4, 3), -0.5))
    model.scl_optimizer.connection_cost.assign(1e3)
    model.fit(X, Y, verbose=0, callbacks=[MaskLogger()])
    told = capsys.readouterr().out
    assert "Down to their last connection:" in told and "second/kernel" in told
