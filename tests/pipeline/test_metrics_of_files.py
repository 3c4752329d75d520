"""The bound holds for every metric, and for the file itself."""

import dataclasses
import types

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from scl_keras import compress
from scl_keras.pipeline.data import Data
from scl_keras.pipeline.phone_file import as_coarse_as_allowed
from scl_keras.timing import Speed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(640, 12)).astype("float32")
PLACE = X[:, :2] * X[:, 2:3]
IS_ABOVE = (PLACE.sum(axis=1) > 0).astype("int64")


def answers(path, x):
    """What a file answers, output by output, one sample at a time."""
    run = Interpreter(str(path)).get_signature_runner()
    (name,) = run.get_input_details()
    rows = [run(**{name: row[None]}) for row in x]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def body():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,))
    return inputs, layers.Dense(64, activation="relu")(inputs)


def trained(model, y, epochs=30, **options):
    model.compile(keras.optimizers.Adam(0.005), **options)
    model.fit(X, y, epochs=epochs, verbose=0)
    return model


@pytest.mark.slow
def test_one_output_of_yes_or_no(tmp_path, capfd):
    inputs, x = body()
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    trained(model, IS_ABOVE, loss="binary_crossentropy", metrics=["accuracy"])
    data, options = (X, IS_ABOVE), {"epochs": 6, "out": tmp_path, "verbose": 0}
    result = compress(model, data, data, max_drop=0.05, **options)
    assert capfd.readouterr().out == ""
    found = answers(tmp_path / "model.tflite", X)["output_0"][:, 0] > 0.5
    accuracy = np.mean(found == IS_ABOVE)
    assert result.in_file["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert result.met and accuracy >= result.before["accuracy"] - 0.05
    assert "accuracy of the file" in (tmp_path / "report.txt").read_text()


@pytest.mark.slow
def test_several_outputs_by_one_of_them(tmp_path):
    inputs, x = body()
    outputs = [layers.Dense(2, name="place")(x), layers.Dense(2, name="kind")(x)]
    model = keras.Model(inputs, outputs)
    classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"loss": ["mse", classes], "metrics": [[], ["accuracy"]]}
    trained(model, [PLACE, IS_ABOVE], **options)
    weights = RNG.uniform(0.5, 1, 640).astype("float32")
    data = X, [PLACE, IS_ABOVE], weights
    options = {"epochs": 6, "out": tmp_path, "verbose": 0}
    result = compress(model, data, data, max_drop=0.05, **options)
    assert result.monitor == "val_kind_accuracy" and result.met
    found = answers(tmp_path / "model.tflite", X)
    kind = found["output_1"]
    accuracy = np.mean(kind.argmax(axis=1) == IS_ABOVE)
    assert result.in_file["kind_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert accuracy >= result.before["kind_accuracy"] - 0.05
    # The losses are weighted, sample by sample.
    errors = np.square(found["output_0"] - PLACE).mean(axis=1)
    shares = np.exp(kind - kind.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    errors -= np.log(shares[np.arange(640), IS_ABOVE])
    expected = np.mean(weights * errors)
    assert result.in_file["loss"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_a_loss_is_that_by_the_labels():
    """The distance from the teacher hides what noisy labels lose."""
    inputs, x = body()
    y = (PLACE + RNG.normal(size=PLACE.shape)).astype("float32")
    model = trained(keras.Model(inputs, layers.Dense(2)(x)), y, 4, loss="mse")
    result = compress(model, (X, y), (X, y), max_drop=0.1, epochs=12, verbose=0)
    assert result.met and result.drop <= 0.1 + 1e-6
    assert result.connections.compression > 1


@pytest.mark.slow
def test_a_coarse_file_that_loses_too_much_is_not_taken(tmp_path):
    inputs, x = body()
    model = trained(keras.Model(inputs, layers.Dense(2)(x)), PLACE, 10, loss="mse")
    options = {"compression": 1.5, "epochs": 2, "verbose": 0}
    result = compress(model, (X, PLACE), (X, PLACE), **options)
    y = result.model.predict(X, verbose=0)  # so that all rounding is a loss
    result = dataclasses.replace(result, after={"loss": 0.0})
    path, data = tmp_path / "model.tflite", Data((X, y), 32, "validation_data")
    asked = types.SimpleNamespace(out=tmp_path, dtype="int8", optimize_for="size")
    options, chosen = {"samples": X, "verbose": 0}, {}
    for may_lose in (None, 1.0, 1e-8):
        found = as_coarse_as_allowed(result, asked, data, may_lose, options)
        loss = np.mean(np.square(answers(path, X)["output_0"] - y))
        assert found.in_file["loss"] == pytest.approx(loss, rel=1e-3, abs=1e-9)
        assert may_lose is None or loss <= may_lose + 1e-6
        chosen[may_lose] = found.export.candidate.split()[0]
    assert chosen[None] == chosen[1.0] == "int8"
    assert chosen[1e-8] != "int8"
    for speed, text in ((Speed(1.4, 0.9, 1.7), "not shown"), (Speed(2, 1.9, 3), "2x")):
        latency = dataclasses.replace(found.export.latency, speed=speed)
        report = dataclasses.replace(found.export, latency=latency)
        rows = dataclasses.replace(found, export=report).rows()
        assert ("speed", "", "", text) in rows
