"""Masks and weights on several devices and in several processes, as on one device."""

import importlib.util
import socket

import distributed
import keras
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="jax is not installed: pip install '.[backends]'",
)


def start(out, *options):
    settings = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [str(distributed.EXAMPLES / "train_jax_distributed.py")]
    return distributed.start(command, out, settings, options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    assert "1 devices, 1 processes" in distributed.finish(
        [start(folder, "--cpu_devices=1")]
    )
    return keras.models.load_model(folder / "model.keras")


@pytest.mark.slow
def test_two_devices_of_one_process(one_device, tmp_path):
    output = distributed.finish([start(tmp_path, "--cpu_devices=2")])
    assert "2 devices, 1 processes" in output
    distributed.compare(one_device, tmp_path)


@pytest.mark.slow
def test_two_processes(one_device, tmp_path):
    common = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    common.append("--cpu_devices=1")
    output = distributed.finish(
        [start(tmp_path, *common, f"--process_id={i}") for i in range(2)]
    )
    assert "2 devices, 2 processes" in output
    distributed.compare(one_device, tmp_path)
