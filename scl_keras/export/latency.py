"""How long TFLite files take for one inference."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

from scl_keras.export.verification import open_interpreter

# A round lasts long enough that reading the clock does not count.
_ROUND_SECONDS = 0.002
_MIN_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Latency:
    """Median time of one inference: one thread, default delegate.

    Attributes:
        dense_ms: Milliseconds with the plain converter's file.
        written_ms: Milliseconds with the file that was written.
        batch_size: Samples of one inference.
    """

    dense_ms: float
    written_ms: float
    batch_size: int = 1

    @property
    def ratio(self) -> float:
        """Dense over written: above 1 the written file is faster."""
        return self.dense_ms / self.written_ms


def measure_latencies(
    files: Mapping[str, bytes], inputs: Mapping[str, np.ndarray], seconds: float
) -> dict[str, float]:
    """Times files against each other.

    They take turns in one process, round by round, so that whatever else the
    machine does meets all alike; the medians leave out what hits one round.

    Args:
        files: The bytes of each file, by name.
        inputs: One batch of inputs by name.
        seconds: How long to measure, all files together.

    Returns:
        The median milliseconds of one inference, by name.
    """
    runs = {name: _prepare(file, inputs) for name, file in files.items()}
    calls = {
        name: max(1, int(_ROUND_SECONDS / max(_seconds(run, 1), 1e-9)))
        for name, run in runs.items()
    }
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    stop, done = time.perf_counter() + seconds, 0
    while done < _MIN_ROUNDS or time.perf_counter() < stop:
        for name, run in runs.items():
            rounds[name].append(_seconds(run, calls[name]))
        done += 1
    return {name: 1000 * float(np.median(times)) for name, times in rounds.items()}


def _prepare(file: bytes, inputs: Mapping[str, np.ndarray]) -> Callable[[], None]:
    """Returns a call of the bare network, inputs in place and warmed up."""
    interpreter = open_interpreter(file)
    details = interpreter.get_signature_runner().get_input_details()
    for name, values in inputs.items():
        interpreter.resize_tensor_input(details[name]["index"], values.shape)
    interpreter.allocate_tensors()
    for name, values in inputs.items():
        interpreter.set_tensor(details[name]["index"], values)
    for _ in range(3):
        interpreter.invoke()
    return interpreter.invoke


def _seconds(run: Callable[[], None], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls
