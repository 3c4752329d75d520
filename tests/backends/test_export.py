"""The documented way from another backend to a TFLite file."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scale_out.md"
MAKE = """
import keras, numpy as np, scl_keras
assert "{backend}" == keras.backend.backend()
inputs = keras.Input((9,))
model = scl_keras.sparsify(keras.Model(inputs, keras.layers.Dense(5)(inputs)))
scl_keras.find_masks(model)[0].assign(np.arange(45).reshape(9, 5) % 7 == 0)
model.save("model.keras")
samples = np.random.default_rng(0).normal(size=(40, 9)).astype("float32")
np.save("samples.npy", samples)
np.save("outputs.npy", keras.ops.convert_to_numpy(model(samples)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_documented_command_exports_a_model_of_another_backend(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install '.[backends]'")
    pattern = r"```bash\n(KERAS_BACKEND=tensorflow python -m .*?)```"
    (command,) = re.findall(pattern, PAGE.read_text(), re.DOTALL)
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for words in ([sys.executable, "-c", MAKE.format(backend=backend)], command):
        done = subprocess.run(
            words,
            shell=isinstance(words, str),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    interpreter = _interpreter(tmp_path / "model.tflite")
    samples = np.load(tmp_path / "samples.npy")
    expected = np.load(tmp_path / "outputs.npy")
    for x, y in zip(samples, expected, strict=True):
        np.testing.assert_allclose(interpreter(x[None])[0], y, rtol=1e-5, atol=1e-5)


def _interpreter(path):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()

    def run(x):
        (name,) = runner.get_input_details()
        (y,) = runner(**{name: x}).values()
        return y

    return run
