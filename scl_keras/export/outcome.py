"""What comes of the trials: the file that is handed out, and the report."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from scl_keras.export.accuracy import Labels
from scl_keras.export.candidates import CONVERTER_SPARSE, Trial
from scl_keras.export.latency import Latency, measure_latencies
from scl_keras.export.reference import Batch, Reference
from scl_keras.export.report import Attempt, ExportReport
from scl_keras.export.weights import Weights, read_weights

GOALS = ("balanced", "size", "latency")

# Times this close together are the same: what is left is noise.
_SAME_TIME = 1.03

# Bytes this close together are worth less than time.
_SAME_SIZE = 1.01

_BATCH_SHARE = 0.1  # of the time to measure, for the larger batch

# Below this, a file is not faster in any sense that counts.
_FASTER = 1.1

_SPARSE = 0.5  # share of zeros from which on a kernel counts as sparse


class ExportError(RuntimeError):
    """No file could be made that computes what the model computes."""


def choose(
    trials: Sequence[Trial], optimize_for: str, milliseconds: Mapping[str, float]
) -> Trial:
    """Returns the best of the files that may be handed out.

    Args:
        trials: What was tried.
        optimize_for: "size": the fewest bytes, and the shortest time of those within
            1 % of it. "latency": the shortest time, and the fewest bytes of those
            within 3 % of it. "balanced": the smallest product of bytes and time, so
            that half the bytes are worth as much as half the time.
        milliseconds: Time of one inference by name. If it is empty, that is not
            measured, bytes count: the first of those within 1 % of the fewest is taken.

    Returns:
        The chosen trial, of equal ones the first.

    Raises:
        ExportError: If there is none.
    """
    eligible = [trial for trial in trials if trial.eligible]
    if not eligible:
        reasons = "\n".join(f"- {t.name}: {t.problem or t.drop}" for t in trials)
        raise ExportError(
            "No TFLite file computes what the Keras model computes; nothing was "
            f"written. Tried:\n{reasons}"
        )
    if optimize_for == "balanced" and milliseconds:
        return min(eligible, key=lambda t: len(t.made) * milliseconds[t.name])
    if optimize_for == "latency" and milliseconds:
        enough = _SAME_TIME * min(milliseconds[t.name] for t in eligible)
        fast = [t for t in eligible if milliseconds[t.name] <= enough]
        return min(fast, key=lambda t: len(t.made))
    enough = _SAME_SIZE * min(len(t.made) for t in eligible)
    small = [t for t in eligible if len(t.made) <= enough]
    return min(small, key=lambda t: milliseconds.get(t.name, 0))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of the candidates.

    Attributes:
        plain: The plain converter's file.
        trials: One for each candidate, the plain one first.
        reference: What the model computes.
        labels: Those of the samples, or None.
        optimize_for: What to choose by.
        dtype: The coarsest precision allowed.
        seconds: How long to time the files; 0 for not at all.
    """

    plain: bytes
    trials: Sequence[Trial]
    reference: Reference
    labels: Labels | None
    optimize_for: str
    dtype: str
    seconds: float

    @functools.cached_property
    def times(self) -> dict[str, float]:
        """Milliseconds of the correct files by name; empty if not measured."""
        return self._time(self.trials, self.reference.batches[0], self.seconds)

    @functools.cached_property
    def chosen(self) -> Trial:
        """The trial whose file is handed out.

        Raises:
            ExportError: If no file is correct.
        """
        return choose(self.trials, self.optimize_for, self.times)

    def report(self, path: pathlib.Path) -> ExportReport:
        """Returns all figures, for a file at `path`."""
        chosen = self.chosen
        plain_weights = read_weights(self.plain)
        unpacked = sum(kernel.values.nbytes for kernel in plain_weights)
        bitmap = sum(kernel.bitmap_bytes for kernel in plain_weights)
        batch_latency = self._batch_latency()
        ratios = {name: self.times["dense"] / ms for name, ms in self.times.items()}
        return ExportReport(
            path=str(path),
            candidate=chosen.name,
            optimize_for=self.optimize_for,
            bytes_dense=len(self.plain),
            bytes_written=len(chosen.made),
            bytes_bitmap=len(self.plain) - unpacked + bitmap,
            gzip_dense=_gzip_bytes(self.plain),
            gzip_written=_gzip_bytes(chosen.made),
            tensors=tuple(kernel.figures() for kernel in chosen.weights),
            differences=chosen.verified.differences,
            tolerance=chosen.verified.tolerance,
            latency=self._latency(self.times, self.reference.batches[0].size),
            batch_latency=batch_latency,
            accuracy=None if self.labels is None else self.labels.accuracy,
            max_accuracy_drop=None if self.labels is None else self.labels.max_drop,
            attempts=tuple(self._attempt(trial, ratios) for trial in self.trials),
            notes=(
                *self.reference.notes,
                *_converter_notes(self.trials),
                *_dtype_notes(chosen, self.dtype),
                *self._accuracy_notes(),
                *_speed_notes(chosen, plain_weights, ratios),
                *_batch_notes(batch_latency),
            ),
        )

    def _time(
        self, trials: Sequence[Trial], batch: Batch, seconds: float
    ) -> dict[str, float]:
        files = {trial.name: trial.made for trial in trials if trial.correct}
        if not seconds or "dense" not in files:
            return {}
        return measure_latencies(files, batch.inputs, seconds)

    def _batch_latency(self) -> Latency | None:
        """Returns times of several samples at once, where the batch size is open."""
        largest = max(self.reference.batches, key=lambda batch: batch.size)
        if largest.size == self.reference.batches[0].size:
            return None
        pair = [self.trials[0], self.chosen]
        times = self._time(pair, largest, _BATCH_SHARE * self.seconds)
        return self._latency(times, largest.size)

    def _latency(self, times: Mapping[str, float], batch_size: int) -> Latency | None:
        if not times:
            return None
        return Latency(times["dense"], times[self.chosen.name], batch_size)

    def _attempt(self, trial: Trial, ratios: Mapping[str, float]) -> Attempt:
        found = trial.verification
        differences = found.differences if found is not None else ()
        return Attempt(
            candidate=trial.name,
            bytes=None if trial.file is None else len(trial.file),
            correct=trial.correct if trial.needed else None,
            outcome=self._sentence(trial, ratios),
            gzip_bytes=None if trial.file is None else _gzip_bytes(trial.file),
            latency_ratio=ratios.get(trial.name),
            largest_difference=max((d.largest for d in differences), default=None),
            mean_difference=max((d.mean for d in differences), default=None),
            accuracy=None if found is None else found.accuracy,
            accuracy_drop=None if trial.drop is None else trial.drop.share,
            accuracy_drop_error=None if trial.drop is None else trial.drop.error,
            chosen=trial is self.chosen,
        )

    def _accuracy_notes(self) -> list[str]:
        """Returns whether labels changed the choice."""
        unlabeled = [dataclasses.replace(trial, drop=None) for trial in self.trials]
        best = choose(unlabeled, self.optimize_for, self.times)
        [refused] = [trial for trial in self.trials if trial.name == best.name]
        if not refused.loses_too_much or refused.drop is None:
            return []
        note = f"{refused.name!r} would be the best, but {refused.drop}."
        if refused.drop.may_be_chance:
            note += " So few samples can't tell that from chance: more of them can."
        return [note]

    def _sentence(self, trial: Trial, ratios: Mapping[str, float]) -> str:
        if trial.problem is not None:
            return trial.problem
        if trial is self.chosen:
            return "written"
        if trial.loses_too_much:
            return f"computes the same up to rounding, but {trial.drop}"
        share = len(trial.made) / len(self.chosen.made)
        sentence = f"correct, {share:.2f} times the bytes"
        if ratios:
            time = ratios[self.chosen.name] / ratios[trial.name]
            sentence += f" and {time:.2f} times the time"
        return sentence


def _gzip_bytes(file: bytes) -> int:
    """Returns the size of a file after gzip, as an app store compresses it."""
    return len(gzip.compress(file))


def _converter_notes(trials: Sequence[Trial]) -> list[str]:
    wrong = [
        trial.name
        for trial in trials
        if trial.candidate.encoding == CONVERTER_SPARSE
        and trial.needed
        and not trial.correct
    ]
    if not wrong:
        return []
    return [
        "The converter's own sparse encoding is wrong or does not load here: "
        f"{', '.join(map(repr, wrong))}."
    ]


def _dtype_notes(chosen: Trial, dtype: str) -> list[str]:
    found = chosen.candidate.precision.dtype
    if found == dtype:
        return []
    return [f"{dtype} was allowed, but a file of {found} is the best."]


def _speed_notes(
    chosen: Trial, weights: Sequence[Weights], ratios: Mapping[str, float]
) -> list[str]:
    if not ratios:
        return ["Latency was not measured, so bytes decided."]
    fastest = max(ratios, key=lambda name: ratios[name])
    if ratios[fastest] < _FASTER:
        return [
            "Nothing tried is faster than the plain file with this runtime. "
            + _why_not_faster(weights)
        ]
    if ratios[chosen.name] < ratios[fastest] / _FASTER:
        return [
            f"{fastest!r} would be faster ({ratios[fastest]:.2f}x): "
            "optimize_for='latency' takes the fastest."
        ]
    return []


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


def _batch_notes(latency: Latency | None) -> list[str]:
    if latency is None or latency.ratio >= 1 / _FASTER:
        return []
    return [
        f"It is for one sample at a time: a batch of {latency.batch_size} takes "
        f"{1 / latency.ratio:.1f} times as long as with the plain file."
    ]
