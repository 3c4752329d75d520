"""The package needs what it declares, and nothing of its extras unless for data."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What comes with the extras `examples` and `tfmot`. (absl comes with TensorFlow.)
EXTRAS = (
    "sklearn",
    "tensorflow_datasets",
    "importlib_resources",
    "tensorflow_model_optimization",
    "tf_keras",
)
OPTIONAL = {
    "datasets.py": {"sklearn", "tensorflow_datasets"},
    "packed_dataset.py": {"PIL"},
    "backend/jax.py": {"jax"},
    "backend/torch.py": {"torch"},
}
PROGRAM = f"""
import sys

sys.modules.update(dict.fromkeys({EXTRAS}))  # they can't be imported

import importlib, pathlib, pkgutil
import keras, numpy as np
import scl_keras

for module in pkgutil.walk_packages(scl_keras.__path__, "scl_keras."):
    if module.name not in ("scl_keras.backend.jax", "scl_keras.backend.torch"):
        importlib.import_module(module.name)

x, y = np.random.rand(32, 8, 8, 1).astype("float32"), np.arange(32) % 10
model = scl_keras.sparsify(scl_keras.architectures.lenet_300_100((8, 8, 1), 10))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss)
target = scl_keras.TargetSparsity(0.9)
callbacks = [target, scl_keras.MaskLogger()]
history = model.fit(x, y, epochs=3, callbacks=callbacks, verbose=0)
scl_keras.report.plotting.plot_training(model, history)
print(scl_keras.summary(scl_keras.prune(model, "snip", 0.95, data=(x, y), loss=loss)))
report = scl_keras.export_tflite(model, "model.tflite", samples=x, latency_seconds=0)
print(report.bytes_written < report.bytes_dense)
"""


def imported(path):
    """The top-level names of what a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_what_is_imported_is_declared():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split("\n")
    declared = {re.match(r"[\w-]*", line)[0].replace("-", "_") for line in lines} - {""}
    found = set()
    package = ROOT / "scl_keras"
    for path in package.rglob("*.py"):
        names = set(imported(path)) - set(sys.stdlib_module_names) - {"scl_keras"}
        found |= names - OPTIONAL.get(str(path.relative_to(package)), set())
    assert found == declared


@pytest.mark.slow
def test_the_package_works_without_its_extras(tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("True")
