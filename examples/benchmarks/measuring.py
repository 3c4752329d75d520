"""What the benchmarks share: steps timed in alternation, and memory of a process.

Nothing here needs TensorFlow unless Keras runs on it.
"""

import pathlib
import resource
import sys
import time

import keras
import numpy as np


class Repeated(keras.utils.PyDataset):
    """The same batch again and again.

    Args:
        batch: Tuple of arrays.
        steps: How often.
    """

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = tuple(batch), steps

    def __len__(self):
        return self.steps

    def __getitem__(self, i):
        return self.batch


def variant(name, model, callback, batch):
    """One compiled model, ready to run some steps on a batch.

    Args:
        name: What it is called in tables.
        model: A compiled model, of Keras or `tf_keras`.
        callback: A callback that is at work, or None.
        batch: Tuple of arrays.
    """
    is_ours = isinstance(model, keras.Model)
    on_tensorflow = not is_ours or keras.backend.backend() == "tensorflow"
    kind = Steps if on_tensorflow else Fits
    if callback is not None:
        callback.set_model(model)
        callback.set_params({"epochs": 1000, "steps": 1000})
        callback.on_train_begin()
        if is_ours:
            callback.on_epoch_begin(0)
    return kind(name, model, callback, batch)


class Steps:
    """Calls the training function of TensorFlow by itself."""

    def __init__(self, name, model, callback, batch):
        import tensorflow as tf

        self.name, self.callback, self.times = name, callback, []
        model.make_train_function()  # unless a callback has had one built already
        self.step = model.train_function
        self.iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
        self.batch = 0

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


class Fits:
    """Calls `fit`, which is what keeps a step's state on JAX, and takes the time in it.

    A step more is made before, which doesn't count.
    """

    def __init__(self, name, model, callback, batch):
        self.name, self.model, self.times = name, model, []
        self.batch = batch
        self.callback = _Within(callback) if callback is not None else None

    def run(self, steps):
        """Seconds that `steps` steps take."""
        clock = _Clock(steps)
        callbacks = [x for x in (self.callback, clock) if x is not None]
        self.model.fit(Repeated(self.batch, steps + 1), callbacks=callbacks, verbose=0)
        return clock.seconds


class _Within(keras.callbacks.Callback):
    """A callback that began before, in `fit` after `fit`: it hears of batches alone."""

    def __init__(self, callback):
        super().__init__()
        self.callback, self.batch = callback, 0

    def on_train_batch_begin(self, batch, logs=None):
        """Passes it on."""
        self.callback.on_train_batch_begin(self.batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Passes it on."""
        self.callback.on_train_batch_end(self.batch, logs)
        self.batch += 1


class _Clock(keras.callbacks.Callback):
    """Seconds from the end of the first step to that of the last one."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        """Waits for the first and the last step."""
        if batch in (0, self.steps):
            float(logs["loss"])
            now = time.perf_counter()
            self.seconds, self.start = now - (self.start if batch else now), now


def alternate(variants, turns, steps, wrap=iter):
    """Lets variants take turns of some steps each, in an order that changes.

    Args:
        variants: List of what `variant` made.
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
    """Most memory the arrays of a GPU took, or else this process had, in bytes."""
    on_gpu = _bytes_on_gpu()
    if on_gpu is not None:
        return on_gpu["peak"]
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # `getrusage` counts the process that started this one, too
        lines = status.read_text().splitlines()
        found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if found:
            return 1024 * int(found[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes():
    """Memory they take now, in bytes; where Linux doesn't tell, the peak."""
    on_gpu = _bytes_on_gpu()
    if on_gpu is not None:
        return on_gpu["now"]
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        return peak_bytes()
    return int(statm.read_text().split()[1]) * resource.getpagesize()


def _bytes_on_gpu():
    """What arrays take on the first GPU, now and at most; None without a GPU."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        if stats is None:  # of a CPU
            return None
        return {"now": stats["bytes_in_use"], "peak": stats["peak_bytes_in_use"]}
    if backend == "torch":
        import torch

        if not torch.cuda.is_available():
            return None
        cuda = torch.cuda
        return {"now": cuda.memory_allocated(), "peak": cuda.max_memory_allocated()}
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    found = tf.config.experimental.get_memory_info("GPU:0")
    return {"now": found["current"], "peak": found["peak"]}
