"""Strided kernels of size 1: TensorFlow 2.21 crashes in the gradient of some."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import effective_masks

ANALYSES = """
import keras, numpy, scl_keras
from keras import layers

inputs = keras.Input((16, 16, 8))
x = layers.Conv2D(16, 3, strides=2, padding="same")(inputs)
shortcut = layers.Conv2D(16, 1, strides=2)(inputs)
x = layers.GlobalAveragePooling2D()(layers.Add()([x, shortcut]))
model = keras.Model(inputs, layers.Dense(3)(x))
scl_keras.summary(model)
scl_keras.prune(model, "synflow", 0.5)
if keras.backend.backend() == "tensorflow":
    samples = numpy.random.default_rng(0).normal(size=(4, 16, 16, 8))
    scl_keras.export_tflite(model, {path!r}, samples=samples, latency_seconds=0)
print("not crashed")
"""


@pytest.mark.slow
def test_a_shortcut_does_not_crash_the_process(tmp_path):
    script = ANALYSES.format(path=str(tmp_path / "a.tflite"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not crashed" in done.stdout


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("length", [4, 5])
def test_it_reads_every_other_position(padding, length):
    """What another convolution leaves at other positions isn't read."""
    inputs = keras.Input((3, 1))
    dense = layers.Dense(length, use_bias=False)
    where = dense(layers.Flatten()(inputs))
    x = layers.Reshape((length, 1))(where)
    x = layers.Conv1D(1, 1, strides=2, padding=padding, use_bias=False)(x)
    model = keras.Model(inputs, layers.Flatten()(x))
    kernel = effective_masks(model)[f"{dense.name}/kernel"]
    np.testing.assert_array_equal(kernel, [np.arange(length) % 2 == 0] * 3)
