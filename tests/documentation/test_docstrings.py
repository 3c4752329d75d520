"""Every example of a public docstring, run as it stands."""

import inspect

import keras
import numpy as np
import pytest

import scl_keras

from .blocks import blocks_of, run
from .public import members, public_names, public_objects

OBJECTS = public_objects()
# What raises them, or returns them, has the example.
WITHOUT = {"DisconnectedError", "ExportError"}
# Their examples train or export.
SLOW = {
    *("AfterTarget", "Compressed", "Distiller", "ExportReport", "RunDifference"),
    *("SafeBackup", "TargetAccuracy", "TargetBytes", "TargetSpeed", "TurnsByEpoch"),
    *("WeightRewinding", "compress", "export_tflite", "plot_densities"),
    *("plot_training", "read_metadata", "verify_tflite"),
}


def marked(name):
    """The parameter of a test, slow if its example is."""
    is_slow = name.rpartition(".")[2] in SLOW
    return pytest.param(name, marks=[pytest.mark.slow] * is_slow)


@pytest.fixture(scope="module")
def names():
    """What examples take as given, as docs/reference/index.md says."""
    short = {name.rpartition(".")[2]: value for name, value in public_names().items()}
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 64)), rng.normal(size=(32, 10))
    data = {"x": x.astype("float32"), "y": y.astype("float32")}
    return {**short, **data, "keras": keras, "np": np, "scl_keras": scl_keras}


def models():
    """The `dense_model` and the `model` with masks of the examples."""
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(32, "relu", name="dense_1")(inputs)
    outputs = keras.layers.Dense(10, name="dense_2")(hidden)
    dense = keras.Model(inputs, outputs)
    sparse = scl_keras.sparsify(dense, copy=True)
    for model in (dense, sparse):
        model.compile("adam", "mse", run_eagerly=True)  # no time to trace
    return {"dense_model": dense, "model": sparse}


# TFMOT, when it is imported.
@pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning")
@pytest.mark.parametrize("name", [marked(n) for n in sorted(OBJECTS)])
def test_examples_run(name, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = OBJECTS[name]
    documented = {name: value} | {f"{name}.{k}": v for k, v in members(value).items()}
    count = 0
    for where, documented_value in documented.items():
        # A docstring of a stock layer, inherited, isn't ours to run.
        blocks = blocks_of(inspect.cleandoc(documented_value.__doc__ or ""))
        assert all(b.language == "python" and not b.reason for b in blocks), where
        namespace = names | models() if blocks else {}
        for block in blocks:
            run(block, namespace, where)
        count += len(blocks)
    assert count or value.__name__ in WITHOUT, f"{name} has no example"
