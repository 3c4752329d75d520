"""How long TFLite files take for one inference."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

import numpy as np

from scl_keras.export.verification import open_interpreter
from scl_keras.timing import Speed, Timings, take_turns

# Where an interpreter's memory lies makes it faster or slower by some percent for as
# long as it lives: each file gets new ones.
_INTERPRETERS = 4
_MIN_ROUNDS = 3  # with each of them
# A call is warm after three, or as soon as they have taken so long.
_WARM_CALLS, _WARM_SECONDS = 3, 0.05


@dataclasses.dataclass(frozen=True)
class Latency:
    """Time of one inference: one thread, default delegate.

    It is the time that the thread computes. What other programs take isn't counted.

    Attributes:
        dense_ms: Median milliseconds with the plain converter's file.
        written_ms: Median milliseconds with the file that was written.
        speed: How many times as fast as the plain file it is, with an interval.
        batch_size: Samples of one inference.
    """

    dense_ms: float
    written_ms: float
    speed: Speed
    batch_size: int = 1

    @property
    def ratio(self) -> float:
        """Dense over written: above 1 the written file is faster."""
        return self.speed.ratio


def measure_latencies(
    files: Mapping[str, bytes], inputs: Mapping[str, np.ndarray], seconds: float
) -> Timings:
    """Times files against each other.

    Args:
        files: The bytes of each file, by name.
        inputs: One batch of inputs by name.
        seconds: How long to measure, all files together.

    Returns:
        The times of one inference, by name.
    """
    parts = []
    for _ in range(_INTERPRETERS):
        runs = {name: _prepare(file, inputs) for name, file in files.items()}
        # Not what passes: the interpreter computes in this thread, and a busy machine
        # interrupts it for longer than it takes.
        part = take_turns(runs, seconds / _INTERPRETERS, time.thread_time, _MIN_ROUNDS)
        parts.append(part)
    return functools.reduce(Timings.and_then, parts)


def _prepare(file: bytes, inputs: Mapping[str, np.ndarray]) -> Callable[[], None]:
    """Returns a call of the bare network, inputs in place and warmed up."""
    interpreter = open_interpreter(file)
    details = interpreter.get_signature_runner().get_input_details()
    for name, values in inputs.items():
        interpreter.resize_tensor_input(details[name]["index"], values.shape)
    interpreter.allocate_tensors()
    for name, values in inputs.items():
        interpreter.set_tensor(details[name]["index"], values)
    stop = time.perf_counter() + _WARM_SECONDS
    for _ in range(_WARM_CALLS):
        interpreter.invoke()
        if time.perf_counter() > stop:
            break
    return interpreter.invoke
