"""A distiller's loss by labels: that of the student trained without a teacher."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import sparsify
from scl_keras.training import Distiller
from scl_keras.training.teaching import OutputDistillation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype("float32")
PLACE = RNG.normal(size=(100, 2)).astype("float32")
KIND = RNG.integers(0, 3, 100)
WEIGHTS = RNG.uniform(0.1, 2, 100).astype("float32")


def net(seed, as_dict=False):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", kernel_regularizer="l2")(inputs)
    place, kind = layers.Dense(2, name="place")(x), layers.Dense(3, name="kind")(x)
    kind = layers.Softmax(name="probability")(kind)
    outputs = {"place": place, "probability": kind} if as_dict else [place, kind]
    return keras.Model(inputs, outputs)


CLASSES = "sparse_categorical_crossentropy"
LISTS = {
    "a loss each": {"loss": ["mse", CLASSES]},
    "weighted": {"loss": ["mse", CLASSES], "loss_weights": [0.2, 3.0]},
    "one without": {"loss": [None, keras.losses.SparseCategoricalCrossentropy()]},
}
DICTS = {
    "by name": {
        "loss": {"place": "mae", "probability": CLASSES},
        "metrics": {"probability": ["accuracy"]},
    }
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("name", [*LISTS, *DICTS])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "sample weights"])
def test_with_all_weight_on_labels_it_trains_the_student_alone(name, weights):
    as_dict = name in DICTS
    options = {"metrics": [[], ["accuracy"]], **(LISTS | DICTS)[name]}
    y = {"place": PLACE, "probability": KIND} if as_dict else [PLACE, KIND]
    seen, logs = [], []
    for distils in (False, True):
        student = model = sparsify(net(1, as_dict), verbose=0)
        if distils:
            teacher, values = net(0, as_dict), OutputDistillation("values")
            model = Distiller(teacher, student, values, student_loss_weight=1.0)
        model.compile(keras.optimizers.SGD(0.1), **options)
        fit = {"batch_size": 32, "shuffle": False, "verbose": 0}
        history = model.fit(
            X,
            y,
            sample_weight=weights,
            epochs=2,
            validation_data=_data(y, weights, 90),
            **fit,
        )
        seen.append(student.get_weights())
        logs.append(history.history)
    for alone, taught in zip(*seen, strict=True):
        np.testing.assert_allclose(taught, alone, rtol=1e-5, atol=1e-6)
    for log, values in logs[0].items():
        np.testing.assert_allclose(logs[1][log], values, rtol=1e-4, err_msg=log)
    # Of batches of different sizes, by sample.
    for log in ("val_student_loss", "val_total_loss"):
        np.testing.assert_allclose(logs[1][log], logs[0]["val_loss"], rtol=1e-5)


def _data(y, weights, count=100):
    given = (X, y) if weights is None else (X, y, weights)
    return keras.tree.map_structure(lambda a: a[:count], given)


def test_it_is_saved_with_its_losses(tmp_path):
    y = [PLACE, KIND]
    kinds = OutputDistillation(["values", "probabilities"])
    model = Distiller(net(0), sparsify(net(1), verbose=0), kinds)
    model.compile("adam", **LISTS["weighted"], metrics=[[], ["accuracy"]])
    model.fit(X, y, verbose=0)
    model.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    found = again.evaluate(X, y, return_dict=True, verbose=0)
    expected = model.evaluate(X, y, return_dict=True, verbose=0)
    assert set(found) == set(expected) > {"probability_accuracy", "place_loss"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5)
