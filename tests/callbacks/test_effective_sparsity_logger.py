import csv

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import EffectiveSparsityLogger, effective_masks, sparsify, summary

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 5)).astype("float32"), RNG.normal(size=(32, 3))


def net():
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, name="a"), layers.Dense(3, name="b")]
    )


class Recount(keras.callbacks.Callback):
    """Counts again from scratch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        table = summary(self.model, None)
        masks = effective_masks(self.model)
        self.seen.append(
            {
                "effective_density": table.effective / table.connections,
                "dead_connections": table.dead,
                "dead_features": sum(row.dead_features for row in table.rows),
                **{f"effective_density/{k}": m.mean() for k, m in masks.items()},
            }
        )


def test_the_figures_are_those_of_the_summary_and_reach_history_and_csv(tmp_path):
    model = sparsify(net(), mask_initializer=0.005)
    model.compile(
        "adam", "mse", mask_optimizer=keras.optimizers.SGD(0.002), connection_cost=0.8
    )
    recount, log = Recount(), tmp_path / "log.csv"
    callbacks = [EffectiveSparsityLogger(), recount, keras.callbacks.CSVLogger(log)]
    history = model.fit(X, Y, epochs=6, verbose=0, callbacks=callbacks).history
    for key in recount.seen[0]:
        expected = [epoch[key] for epoch in recount.seen]
        np.testing.assert_allclose(history[key], expected)
        with open(log) as file:
            rows = [float(row[key]) for row in csv.DictReader(file)]
        np.testing.assert_allclose(rows, expected)
    assert min(history["effective_density"]) < max(history["effective_density"])
    assert max(history["dead_connections"]) > 0


def test_stock_models_are_read_by_their_zeros():
    model = net()
    model.compile("sgd", "mse")
    model.layers[0].kernel.assign(np.zeros((5, 8)))
    model.layers[0].trainable = False
    history = model.fit(X, Y, verbose=0, callbacks=[EffectiveSparsityLogger()]).history
    assert history["effective_density"] == [0]
    assert history["dead_connections"] == [24]
    assert history["dead_features"] == [11]


def test_open_sizes_are_given_and_other_models_refused():
    inputs = keras.Input((None, 5))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    x, y = X[:, None], Y[:, None]
    with pytest.raises(ValueError, match="input_shapes"):
        model.fit(x, y, verbose=0, callbacks=[EffectiveSparsityLogger()])
    logger = EffectiveSparsityLogger(input_shapes=(1, 5))
    history = model.fit(x, y, verbose=0, callbacks=[logger]).history
    assert history["effective_density"] == [1]
    model = keras.Sequential([keras.Input((5,)), layers.ReLU()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="masked.*Received"):
        model.fit(X, X, verbose=0, callbacks=[EffectiveSparsityLogger()])
