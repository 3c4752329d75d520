"""A search over the connection cost with KerasTuner."""

import keras
import keras_tuner
import pytest

import scl_keras
from scl_keras.datasets import load_dataset


@pytest.mark.slow
# KerasTuner names its threads in the old way.
@pytest.mark.filterwarnings("ignore:(currentThread|getName):DeprecationWarning")
# It loads weights before the optimizer is built, and Keras says so of every one.
@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_the_connection_cost_is_a_hyperparameter_like_any_other(tmp_path):
    data = load_dataset("digits")

    def build(hp):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(inputs)
        x = scl_keras.MaskedDense(16, activation="relu")(x)
        model = scl_keras.SCLModel(inputs, scl_keras.MaskedDense(10)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        cost = hp.Choice("connection_cost", [0.0, 1.0])
        model.compile("adam", loss, metrics=["accuracy"], connection_cost=cost)
        return model

    tuner = keras_tuner.GridSearch(
        build,
        objective=keras_tuner.Objective("sparsity", "max"),
        directory=tmp_path,
        seed=0,
    )
    x, y = data.x_train[:128], data.y_train[:128]
    tuner.search(x, y, epochs=5, verbose=0)
    assert tuner.get_best_hyperparameters()[0].get("connection_cost") == 1.0
    best, other = tuner.get_best_models(2)
    assert best.connection_cost.numpy() == 1.0
    assert scl_keras.summary(best).kept < scl_keras.summary(other).kept
