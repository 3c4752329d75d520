"""Masks and weights of two processes on loopback, as those of one process."""

import importlib.util

import distributed
import keras
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed: pip install '.[backends]'",
)


@pytest.mark.slow
def test_two_processes(tmp_path):
    script = str(distributed.EXAMPLES / "train_torch_distributed.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    settings = {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    one, two = (
        distributed.start(command, tmp_path / name, settings)
        for name, command in (("one", [script]), ("two", [*torchrun, script]))
    )
    assert "1 devices, 1 processes" in distributed.finish([one])
    assert "2 devices, 2 processes" in distributed.finish([two])
    model = keras.models.load_model(tmp_path / "one" / "model.keras")
    distributed.compare(model, tmp_path / "two")
