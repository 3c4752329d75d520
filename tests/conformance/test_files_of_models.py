"""Models of others are loaded by other processes, with their masks and without."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from lives import compiled, cut_at_random, labels, outputs
from models import CASES

from scl_keras import Block, sparsify, strip_masks


def save(name, folder):
    """Writes a model with masks, and without them, and what it computes."""
    case = CASES[name]
    x = case.inputs(np.random.default_rng(0))
    stock = compiled(case.build())
    y, class_name = labels(stock, x), type(stock).__name__
    model = sparsify(stock, granularity=Block(2), ste="softplus", verbose=0)
    cut_at_random(model)
    model.save(folder / f"{name}.masked.keras")
    arrays = x if isinstance(x, dict) else {"x": x}
    expected = outputs(model, x)
    np.savez(
        folder / f"{name}.npz", **arrays, y=y, expected=expected, class_name=class_name
    )
    strip_masks(model).save(folder / f"{name}.stock.keras")


FEW = ["gpt2", "guide", "custom_fit"]
REST = [name for name in CASES if name not in FEW]


@pytest.mark.parametrize(
    "models", [FEW, pytest.param(REST, marks=pytest.mark.slow)], ids=["few", "rest"]
)
def test_other_processes_load_them(models, tmp_path):
    for name in models:
        save(name, tmp_path)
    script = str(pathlib.Path(__file__).with_name("load_process.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(tmp_path), kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for kind in ("masked", "stock")
    ]
    for process in processes:
        printed, _ = process.communicate(timeout=900)
        assert process.returncode == 0, printed[-3000:]
        loaded = [x for x in printed.splitlines() if x.startswith("loaded")]
        assert sorted(loaded) == sorted(f"loaded {name}" for name in models)
