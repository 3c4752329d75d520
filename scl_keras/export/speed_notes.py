"""What the report says of speed: no more than the times have shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scl_keras.export.latency import Latency
from scl_keras.export.weights import Weights
from scl_keras.timing import Speed, Timings

# Below this, a file is not faster in any sense that counts.
_FASTER = 1.1

_SPARSE = 0.5  # share of zeros from which on a kernel counts as sparse


def speed_notes(
    chosen: str,
    weights: Sequence[Weights],
    timings: Timings | None,
    batch_latency: Latency | None,
) -> list[str]:
    """Returns sentences on what is faster, and why nothing is.

    Args:
        chosen: The name of the file that is written.
        weights: Those of the plain file.
        timings: Times of all correct files, the plain one as "dense"; None if they were
            not measured.
        batch_latency: Times of a larger batch, if they were measured.
    """
    if timings is None:
        return ["Latency was not measured, so bytes decided."]
    speeds = {name: timings.speed(name, "dense") for name in timings.rounds}
    notes = _fastest_notes(chosen, weights, timings, speeds, batch_latency)
    if batch_latency is not None and _is_much_slower(batch_latency.speed):
        notes.append(
            f"It is for one sample at a time: a batch of {batch_latency.batch_size} "
            f"takes {1 / batch_latency.ratio:.1f} times as long as with the plain file."
        )
    return notes


def _fastest_notes(
    chosen: str,
    weights: Sequence[Weights],
    timings: Timings,
    speeds: Mapping[str, Speed],
    batch_latency: Latency | None,
) -> list[str]:
    faster = [name for name, speed in speeds.items() if _is_much_faster(speed)]
    if faster:
        fastest = max(faster, key=lambda name: speeds[name].ratio)
        if not _is_much_faster(timings.speed(fastest, chosen)):
            return []
        return [
            f"{fastest!r} would be faster ({speeds[fastest].ratio:.2f}x): "
            "optimize_for='latency' takes the fastest."
        ]
    if batch_latency is not None and _is_much_faster(batch_latency.speed):
        return []
    if any(not s.is_decided and s.high > _FASTER for s in speeds.values()):
        return [
            "The times vary too much to show that a file is faster than the plain one, "
            "or that none is. A larger `latency_seconds` narrows the intervals."
        ]
    return [
        "Nothing tried is faster than the plain file by a tenth or more with this "
        f"runtime. {_why_not_faster(weights)}"
    ]


def _is_much_faster(speed: Speed) -> bool:
    return speed.is_faster and speed.ratio >= _FASTER


def _is_much_slower(speed: Speed) -> bool:
    return speed.is_slower and speed.ratio <= 1 / _FASTER


def _why_not_faster(weights: Sequence[Weights]) -> str:
    sparse = [w for w in weights if w.sparsity > _SPARSE]
    if not sparse:
        return "Few of its weights are zero."
    if all(w.values.ndim > 2 for w in sparse):
        return (
            "Its zeros are in convolutions, for which x86 has no sparse kernel: they "
            "are unpacked when the file is loaded. Whole channels of zeros would help."
        )
    cut = int(np.sum([w.values.size - w.nonzero for w in sparse]))
    return (
        f"Its {cut:,} zeros are too few or too scattered for the sparse kernels, which "
        "take longer for a weight than the dense one."
    )
