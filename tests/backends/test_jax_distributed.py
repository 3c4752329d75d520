"""Masks and weights on several devices and in several processes, as on one device."""

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

import scl_keras

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "train_jax_distributed.py"
OPTIONS = ["--samples=256", "--epochs=3", "--sparsity=0.8", "--batch_size=32"]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="jax is not installed: pip install '.[backends]'",
)


def start(out, *options):
    settings = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *OPTIONS, f"--out={out}", *options],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    outputs = [process.communicate(timeout=900) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return outputs[0][0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    assert "1 devices, 1 processes" in finish([start(folder, "--cpu_devices=1")])
    return keras.models.load_model(folder / "model.keras")


def compare(model, folder):
    other = keras.models.load_model(folder / "model.keras")
    masks = [scl_keras.find_masks(m) for m in (model, other)]
    for a, b in zip(*masks, strict=True):
        np.testing.assert_array_equal(a.variable.numpy() > 0, b.variable.numpy() > 0)
    for a, b in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-4, err_msg=a.path)
    kept = sum(int(mask.count()) for mask in masks[0])
    assert kept == round(0.2 * sum(mask.size for mask in masks[0]))


@pytest.mark.slow
def test_two_devices_of_one_process(one_device, tmp_path):
    output = finish([start(tmp_path, "--cpu_devices=2")])
    assert "2 devices, 1 processes" in output
    compare(one_device, tmp_path)


@pytest.mark.slow
def test_two_processes(one_device, tmp_path):
    common = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    common.append("--cpu_devices=1")
    output = finish([start(tmp_path, *common, f"--process_id={i}") for i in range(2)])
    assert "2 devices, 2 processes" in output
    compare(one_device, tmp_path)
