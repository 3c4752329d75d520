"""A model that is spread over devices learns what it learns on one."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("model_parallel_process.py")


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="jax is not installed: pip install '.[backends]'",
)
def test_masks_lie_where_their_kernels_do():
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    difference, spread = json.loads(run.stdout.strip().splitlines()[-1])
    assert difference < 1e-5
    assert spread["conv/kernel_mask/mask"] == [None, None, None, "model"]
    assert spread["hidden/kernel_mask/mask"] == [None, "model"]
    assert spread["blocks/kernel_mask/mask"] == [None, "model"]
    assert spread["named/kernel"] == [None, "model"]
    assert spread["named/kernel_mask/mask"] == ["model", None]
    assert not any(spread["last/kernel_mask/mask"])
