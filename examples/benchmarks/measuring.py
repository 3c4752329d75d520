"""What the benchmarks share: steps timed in alternation, and memory of a process."""

import pathlib
import resource
import sys
import time

import keras
import numpy as np


class Variant:
    """One compiled model and its training function, ready to run some steps."""

    def __init__(self, name, model, callback, data):
        self.name, self.callback, self.times = name, callback, []
        model.make_train_function()
        self.iterator = iter(data)
        self.batch = 0
        if callback is not None:
            callback.set_model(model)
            callback.set_params({"epochs": 1000, "steps": 1000})
            callback.on_train_begin()
            if isinstance(model, keras.Model):
                callback.on_epoch_begin(0)
        self.step = model.train_function  # a callback may have had it built anew

    def run(self, steps):
        """Seconds that `steps` steps take."""
        start = time.perf_counter()
        for _ in range(steps):
            if self.callback is not None:
                self.callback.on_train_batch_begin(self.batch)
            logs = self.step(self.iterator)
            if self.callback is not None:
                self.callback.on_train_batch_end(self.batch)
                self.batch += 1
        float(keras.tree.flatten(logs)[0])  # wait for the last
        return time.perf_counter() - start


def alternate(variants, turns, steps, wrap=iter):
    """Lets variants take turns of some steps each, in an order that changes.

    Args:
        variants: List of `Variant`.
        turns: Number of turns of each.
        steps: Steps of a turn.
        wrap: Function around the turns, such as a progress bar.

    Returns:
        Median seconds of a step, by name.
    """
    rng = np.random.default_rng(0)
    for _ in wrap(range(turns)):
        for i in rng.permutation(len(variants)):
            variants[i].times.append(variants[i].run(steps) / steps)
    return {v.name: float(np.median(v.times)) for v in variants}


def peak_bytes():
    """Most memory this process had, in bytes."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # `getrusage` counts the process that started this one, too
        lines = status.read_text().splitlines()
        found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if found:
            return 1024 * int(found[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes():
    """Memory this process has now, in bytes; where Linux doesn't tell, the peak."""
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        return peak_bytes()
    return int(statm.read_text().split()[1]) * resource.getpagesize()
