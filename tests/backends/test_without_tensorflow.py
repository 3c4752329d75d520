"""What is to be measured on a GPU needs JAX, and neither TensorFlow nor its friends."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from scl_keras.packed_dataset import write_packed

BENCHMARKS = pathlib.Path(__file__).parents[2] / "examples" / "benchmarks"
ABSENT = (
    *("tensorflow", "tensorflow_datasets", "tensorflow_model_optimization"),
    *("tf_keras", "sklearn", "ai_edge_litert"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax") is None,
        reason="jax is not installed: pip install '.[backends]'",
    ),
]


@pytest.fixture
def folder(tmp_path, rng):
    """Packed data, and packages that can't be imported."""
    for name in ABSENT:
        (tmp_path / "absent" / name).mkdir(parents=True)
        code = f"raise ModuleNotFoundError('no {name} here', name='{name}')"
        (tmp_path / "absent" / name / "__init__.py").write_text(code)
    images, labels = rng.integers(0, 256, (64, 8, 8, 1), "uint8"), np.arange(64) % 10
    splits = {"train": (images, labels), "test": (images, labels)}
    write_packed(tmp_path / "mnist.npz", splits, 10)
    return tmp_path


@pytest.mark.parametrize(
    "command, words",
    [
        (
            "compare_methods.py --network=lenet_300_100 --compressions=4 --seeds=0 "
            "--dense_epochs=1 --epochs=3 --data_dir=. --out=out",
            ["SCL", "LAMP", "SNIP", "switcher"],
        ),
        ("training.py --smoke --out=out.json", ["lenet_300_100", "jit"]),
        ("size.py --smoke --network=resnet_18 --out=out.json", ["resnet_18", "scl"]),
    ],
)
def test_it_runs(command, words, folder):
    name, *options = command.split()
    settings = {
        "KERAS_BACKEND": "jax",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(folder / "absent"), str(BENCHMARKS.parents[1])]
        ),
    }
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *options],
        env=os.environ | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    for word in words:
        assert word in result.stdout
    assert "TFMOT" not in result.stdout
