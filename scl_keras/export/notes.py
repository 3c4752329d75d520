"""Sentences on what an export found, above all on what did not get better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scl_keras.export.candidates import Trial
from scl_keras.export.latency import Latency
from scl_keras.export.weights import Weights

# Below this, a file is not faster in any sense that counts.
_FASTER = 1.1
_SPARSE = 0.5  # zeros from which on a kernel counts as sparse


def make_notes(
    chosen: Trial,
    trials: list[Trial],
    weights: tuple[Weights, ...],
    ratios: Mapping[str, float],
    batch_latency: Latency | None,
    dtype: str,
) -> tuple[str, ...]:
    """Says what the figures mean.

    Args:
        chosen: The trial that is written.
        trials: All of them.
        weights: The model's kernels, as the plain float32 file holds them.
        ratios: How many times as fast as the plain file each candidate is; empty if
            not measured.
        batch_latency: Times for a larger batch, if measured.
        dtype: The coarsest precision allowed.
    """
    notes = []
    if any(t.name.endswith("sparse") and not t.correct and t.needed for t in trials):
        names = [t.name for t in trials if t.name.endswith("sparse") and t.needed]
        wrong = [t.name for t in trials if t.name in names and not t.correct]
        notes.append(
            "The converter's own sparse encoding is wrong or does not load here: "
            f"{', '.join(map(repr, wrong))}."
        )
    if chosen.candidate.precision.dtype != dtype:
        notes.append(
            f"{dtype} was allowed, but a file of "
            f"{chosen.candidate.precision.dtype} is the best."
        )
    notes += _speed_notes(chosen, weights, ratios)
    batch = batch_latency
    if batch is not None and batch.ratio < 1 / _FASTER:
        notes.append(
            f"It is for one sample at a time: a batch of {batch.batch_size} takes "
            f"{1 / batch.ratio:.1f} times as long as with the plain file."
        )
    return tuple(notes)


def _speed_notes(chosen: Trial, weights, ratios) -> list[str]:
    if not ratios:
        return ["Latency was not measured, so bytes decided."]
    notes = []
    fastest = max(ratios, key=ratios.get)
    if ratios[fastest] < _FASTER:
        notes.append(
            "Nothing tried is faster than the plain file with this runtime. "
            + _why_not_faster(weights)
        )
    elif ratios[chosen.name] < ratios[fastest] / _FASTER:
        notes.append(
            f"{fastest!r} would be faster ({ratios[fastest]:.2f}x): "
            "optimize_for='latency' takes the fastest."
        )
    return notes


def _why_not_faster(weights) -> str:
    sparse = [w for w in weights if 1 - w.nonzero / w.values.size > _SPARSE]
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
