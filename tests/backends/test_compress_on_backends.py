"""`compress` on other backends: killed and resumed, judged by TensorFlow afterwards."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import os, keras, scl_keras
from scl_keras.datasets import load_dataset
assert keras.backend.backend() == "{backend}"
digits = load_dataset("digits")
training, validation = (digits.x_train, digits.y_train), (digits.x_test, digits.y_test)
if os.path.exists("dense.keras"):
    dense = keras.models.load_model("dense.keras")
else:
    keras.utils.set_random_seed(0)
    dense = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    dense.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    dense.fit(*training, epochs=8, verbose=0)
    dense.save("dense.keras")
if {epoch}:
    seal = scl_keras.SafeBackup.on_epoch_end
    def killed(self, epoch, logs=None):
        seal(self, epoch, logs)
        if epoch == {epoch}:
            os._exit(9)
    scl_keras.SafeBackup.on_epoch_end = killed
result = scl_keras.compress(
    dense, training, validation, max_drop=0.03, epochs=8, out="small", verbose=0
)
print(result)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_killed_compression_goes_on_and_keeps_its_bound(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install '.[backends]'")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    codes, out = [], ""
    for epoch in (4, 0):
        program = PROGRAM.format(backend=backend, epoch=epoch)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        codes.append(done.returncode)
        out = done.stdout
        if epoch:
            assert any((tmp_path / "small" / "training").glob("epoch_*")), done.stderr
    assert codes == [9, 0], done.stderr
    assert "python -m scl_keras export" in out
    from scl_keras.datasets import load_dataset

    digits = load_dataset("digits")

    def accuracy(path):
        model = keras.models.load_model(path)
        found = model.predict(digits.x_test, verbose=0).argmax(-1)
        return np.mean(found == digits.y_test), model

    dense, _ = accuracy(tmp_path / "dense.keras")
    sparse, model = accuracy(tmp_path / "small" / "model.keras")
    report = json.loads((tmp_path / "small" / "report.json").read_text())
    assert report["met"] and report["goal"] == {"kind": "max_drop", "value": 0.03}
    assert sparse >= dense - 0.03 - 1e-9
    kernels = [w for w in model.get_weights() if w.ndim == 2]
    assert sum(np.count_nonzero(k) for k in kernels) < 0.5 * sum(
        k.size for k in kernels
    )
    assert not (tmp_path / "small" / "training").exists()
