r"""Time and memory of a training step, for each method.

Time: all methods' models stand in one process and take turns, a few steps each. The
ratio is that of medians to the dense Keras network; TFMOT's, too, which trains on
`tf_keras`. Callbacks count. Memory: each method trains in a process of its own; the
figure is the peak of what is resident beyond what was before the model was made. It
runs this file:

    python examples/benchmarks/comparison/costs.py '{"network": "lenet_5", ...}' scl
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

if __name__ == "__main__":  # the process that memory is measured in
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path[:0] = map(str, pathlib.Path(__file__).parents[1:3])

import keras
import numpy as np
from measuring import alternate, peak_bytes, resident_bytes, variant

from comparison.methods import METHODS, with_own_step
from comparison.recipes import Prepared
from comparison.study import planned
from comparison.tasks import Task
from comparison.training import compiled
from scl_keras.datasets import Dataset

SHAPES = {"digits": (8, 8, 1), "cifar10_jpeg": (32, 32, 3)}
COMPRESSION = 50
_BATCHES = 8


def step_seconds(task, turns, seconds, wrap=iter):
    """Median seconds of a step of each method, by name; "tf_keras" is dense there.

    Args:
        task: The `Task`.
        turns: Turns of each method.
        seconds: About how long a turn of the dense network takes.
        wrap: Function around the turns, such as a progress bar.
    """
    data = _noise(task)
    batch = data.x_train[: task.batch_size], data.y_train[: task.batch_size]
    variants = []
    for name in with_own_step():
        prepared = _prepare(name, task, data)
        variants.append(_variant(name, prepared, task, batch))
        if prepared.framework is not keras:
            from tfmot_baseline import legacy_twin

            keras.utils.set_random_seed(0)
            legacy = legacy_twin(task.build(data))
            dense = Prepared(legacy, framework=prepared.framework)
            variants.append(_variant("tf_keras", dense, task, batch))
    for one in variants:
        one.run(3)
    steps = max(1, round(seconds / (variants[0].run(5) / 5)))
    return alternate(variants, turns, steps, wrap)


def step_bytes(task, name):
    """Peak memory of a method's training, measured in a process of its own."""
    command = [sys.executable, __file__, json.dumps(dataclasses.asdict(task)), name]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise OSError(f"Measuring the memory of {name} failed:\n{run.stderr[-2000:]}")
    return int(run.stdout.strip().splitlines()[-1])


def measure(task, turns, seconds, wrap=iter):
    """Time and memory of all methods that differ in their step: a JSON-able dict."""
    return {
        "task": dataclasses.asdict(task),
        "seconds": step_seconds(task, turns, seconds, wrap),
        "bytes": {name: step_bytes(task, name) for name in with_own_step()},
    }


def _noise(task):
    """Random images of the task's shape: what is in them doesn't matter here."""
    rng = np.random.default_rng(0)
    count = task.batch_size * _BATCHES
    x = rng.random((count, *SHAPES.get(task.dataset, (28, 28, 1))), "float32")
    y = rng.integers(0, 10, count)
    return Dataset("noise", x, y, x, y, 10)


def _prepare(name, task, data):
    """A method's model as it is trained, ready for its first step."""
    method = METHODS[name]
    run = planned(task, name, COMPRESSION, seed=0)
    keras.utils.set_random_seed(0)
    # As many steps as ten epochs of MNIST: what is done at every hundredth of a
    # training is done as often as there.
    return method.prepare(task.build(data), run, data, 600, **method.parameters)


def _variant(name, prepared, task, batch):
    model = compiled(prepared, task, steps=2000)
    callback = prepared.callbacks[0] if prepared.callbacks else None
    return variant(name, model, callback, batch)


def _peak(task, name):
    """Bytes that this process needs more, to train a method for some steps."""
    data = _noise(task)
    warm = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    warm.compile("adam", "mse", jit_compile=task.jit_compile)
    warm.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0)  # all is imported
    before = resident_bytes()
    prepared = _prepare(name, task, data)
    model = compiled(prepared, task, steps=2000)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=task.batch_size,
        epochs=3,
        verbose=0,
        callbacks=prepared.callbacks,
    )
    return peak_bytes() - before


if __name__ == "__main__":
    print(_peak(Task(**json.loads(sys.argv[1])), sys.argv[2]))
