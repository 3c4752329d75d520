import contextlib
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import scl_keras

SCRIPT = pathlib.Path(__file__).with_name("mirrored_process.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "cases",
    [
        ["feature", "bad batch", "target"],
        pytest.param(
            ["network", "feature", "none", "momentum", "bad batch", "target"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=" ".join,
)
def test_two_devices_learn_what_one_does(cases):
    # Devices are set before TensorFlow starts: in a process of its own.
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *cases], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    report, refusal = json.loads(result.stdout.strip().splitlines()[-1])
    for name, (difference, skipped, also_skipped, _) in report.items():
        assert difference < 1e-5, name
        assert skipped == also_skipped == (3 if name == "bad batch" else 0), name
    masks = {str(kept) for *_, kept in report.values()}
    assert len(masks) == len(cases)  # each case does something else
    assert "a strategy of 2 replicas" in refusal


@pytest.mark.parametrize(
    "strategy",
    [tf.distribute.MirroredStrategy, lambda: tf.distribute.OneDeviceStrategy("/cpu:0")],
    ids=["mirrored", "one device"],
)
def test_a_strategy_of_one_device_changes_nothing(strategy, rng):
    """As on a machine with a single GPU: a program that could use more."""
    x, y = rng.normal(size=(64, 20)).astype("float32"), rng.integers(10, size=64)

    def train(scope):
        keras.utils.set_random_seed(0)
        with scope:
            layers = [keras.Input((20,)), keras.layers.Dense(10)]
            model = scl_keras.sparsify(keras.Sequential(layers))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, jit_compile=False, connection_cost=0.1)
        target = scl_keras.TargetSparsity(0.5)
        model.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[target])
        return model.get_weights()

    alone = train(contextlib.nullcontext())
    for a, b in zip(alone, train(strategy().scope()), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
