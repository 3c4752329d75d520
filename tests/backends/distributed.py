"""Trainings in processes of their own, and what comes out of them."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np

import scl_keras

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
OPTIONS = ["--samples=256", "--epochs=3", "--sparsity=0.8", "--batch_size=32"]


def start(command, out, settings, options=()):
    """Starts a training, with `settings` of its environment."""
    return subprocess.Popen(
        [sys.executable, *command, *OPTIONS, f"--out={out}", *options],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    """What the first of several prints, when all have ended well."""
    outputs = [process.communicate(timeout=900) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return outputs[0][0]


def compare(model, folder):
    """Asserts that a model and that of a folder learned the same."""
    other = keras.models.load_model(folder / "model.keras")
    masks = [scl_keras.find_masks(m) for m in (model, other)]
    for a, b in zip(*masks, strict=True):
        np.testing.assert_array_equal(a.variable.numpy() > 0, b.variable.numpy() > 0)
    for a, b in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-4, err_msg=a.path)
    kept = sum(int(mask.count()) for mask in masks[0])
    assert kept == round(0.2 * sum(mask.size for mask in masks[0]))
