"""The three backends of Keras learn the same masks and weights."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).with_name("train_process.py")


def run(backend, folder):
    path = folder / f"{backend}.npz"
    # JAX compiles faster so, and that is what takes the time.
    settings = {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.strip().splitlines()[-1])
    with np.load(path) as arrays:
        return dict(arrays), report


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    if not any(map(importlib.util.find_spec, ("jax", "torch"))):
        pytest.skip("No other backend is installed: pip install '.[backends]'")
    return run("tensorflow", tmp_path_factory.mktemp("tensorflow"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_learns_what_tensorflow_does(backend, reference, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install '.[backends]'")
    expected, (found, report) = reference[0], run(backend, tmp_path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        other = found[name]
        assert other.shape == value.shape, name
        np.testing.assert_allclose(other, value, rtol=2e-4, atol=2e-5, err_msg=name)
        # Rounding may part what is on the edge; nothing is, here.
        if "weight" in name or "kernel" in name:
            np.testing.assert_array_equal(other > 0, value > 0, err_msg=name)
    assert "tensorflow" not in report["imported"]
    assert "need the TensorFlow backend" in report["export"]
    assert f"Received: KERAS_BACKEND={backend}" in report["export"]


def test_the_cases_do_what_they_are_for(reference):
    arrays, report = reference
    assert arrays["bad batch: log skipped_updates"].tolist() == [1, 2, 3]
    assert np.isfinite(arrays["bad batch: weight 0"]).all()
    assert arrays["loss scaling: log skipped_updates"].tolist() == [0, 3, 6, 9]
    np.testing.assert_allclose(
        arrays["targets in turn: log second sparsity"][-1], 0.8, atol=1e-3
    )
    density = arrays["momentum and freezing: log density"]
    assert density[1] == density[2]
    np.testing.assert_allclose(arrays["target: log sparsity"][-1], 0.8, atol=1e-3)
    assert 0.1 < arrays["switcher: log sparsity"][-1] < 0.9
    steered = arrays["switcher: log steered sparsity"]
    np.testing.assert_allclose(steered[-1], 0.7, atol=1e-2)
    assert arrays["tools: compacted"][0] < 1000
    assert report["export"] == "written"
    assert "torch" not in report["imported"]
