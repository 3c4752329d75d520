"""What comes of the trials: the file that is handed out, and the report."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import pathlib
from collections.abc import Sequence

from scl_keras.export.accuracy import Labels
from scl_keras.export.candidates import CONVERTER_SPARSE
from scl_keras.export.latency import Latency, measure_latencies
from scl_keras.export.reference import Batch, Reference
from scl_keras.export.report import Attempt, ExportReport
from scl_keras.export.speed_notes import speed_notes
from scl_keras.export.trials import Trial
from scl_keras.export.weights import read_weights
from scl_keras.timing import Timings

# Times this close together are as good as the same.
_SAME_TIME = 1.03

# Bytes this close together are worth less than time.
_SAME_SIZE = 1.01

_BATCH_SHARE = 0.1  # of the time to measure, for the larger batch
_BATCH_MS = 50.0  # a call with it takes no longer: sixteen a file are needed


class ExportError(RuntimeError):
    """No file could be made that computes what the model computes."""


def choose(
    trials: Sequence[Trial], optimize_for: str, timings: Timings | None
) -> Trial:
    """Returns the best of the files that may be handed out.

    Where times don't show a difference (see `Speed`), the fewest bytes decide.

    Args:
        trials: What was tried.
        optimize_for: "size": the fewest bytes, or the shortest time of those within
            1 % of it. "latency": the shortest time, or the fewest bytes of those within
            3 % of it. "balanced": the smallest product of bytes and time, so that half
            the bytes are worth as much as half the time.
        timings: Times of the correct files by name. If it is None, they were not
            measured, and bytes count: the first of those within 1 % of the fewest is
            taken.

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
    smallest = min(eligible, key=_size)
    if timings is None:
        return next(t for t in eligible if _size(t) <= _SAME_SIZE * _size(smallest))
    if optimize_for == "size":
        return _fastest_of_small(eligible, smallest, timings)
    share = 0 if optimize_for == "latency" else 1
    enough = _SAME_TIME if optimize_for == "latency" else 1.0

    def cost(trial: Trial) -> float:
        return _size(trial) ** share * timings.ms(trial.name)

    best = min(eligible, key=cost)
    # How much cheaper than the best one a file might be, by the end of its interval.
    as_good = [
        trial
        for trial in eligible
        if (_size(trial) / _size(best)) ** share
        <= enough * timings.speed(trial.name, best.name).high
    ]
    return min(as_good, key=_size)


def _size(trial: Trial) -> int:
    return len(trial.made)


def _fastest_of_small(
    correct: Sequence[Trial], smallest: Trial, timings: Timings
) -> Trial:
    speeds = {
        trial.name: timings.speed(trial.name, smallest.name)
        for trial in correct
        if _size(trial) <= _SAME_SIZE * _size(smallest)
    }
    faster = [t for t in correct if t.name in speeds and speeds[t.name].is_faster]
    return max(faster, key=lambda t: speeds[t.name].ratio, default=smallest)


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
    def timings(self) -> Timings | None:
        """Times of the correct files by name; None if not measured."""
        return self._time(self.trials, self.reference.batches[0], self.seconds)

    @functools.cached_property
    def chosen(self) -> Trial:
        """The trial whose file is handed out.

        Raises:
            ExportError: If no file is correct.
        """
        return choose(self.trials, self.optimize_for, self.timings)

    def report(self, path: pathlib.Path) -> ExportReport:
        """Returns all figures, for a file at `path`."""
        chosen = self.chosen
        plain_weights = read_weights(self.plain)
        unpacked = sum(kernel.values.nbytes for kernel in plain_weights)
        bitmap = sum(kernel.bitmap_bytes for kernel in plain_weights)
        batch_latency = self._batch_latency()
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
            latency=self._latency(self.timings, self.reference.batches[0].size),
            batch_latency=batch_latency,
            accuracy=None if self.labels is None else self.labels.accuracy,
            max_accuracy_drop=None if self.labels is None else self.labels.max_drop,
            attempts=tuple(self._attempt(trial) for trial in self.trials),
            notes=(
                *self.reference.notes,
                *_converter_notes(self.trials),
                *_dtype_notes(chosen, self.dtype),
                *self._accuracy_notes(),
                *speed_notes(chosen.name, plain_weights, self.timings, batch_latency),
            ),
        )

    def _time(
        self, trials: Sequence[Trial], batch: Batch, seconds: float
    ) -> Timings | None:
        files = {trial.name: trial.made for trial in trials if trial.correct}
        if not seconds or "dense" not in files:
            return None
        return measure_latencies(files, batch.inputs, seconds)

    def _batch_latency(self) -> Latency | None:
        """Returns times of several samples at once, where the batch size is open."""
        first = self.reference.batches[0]
        largest = max(self.reference.batches, key=lambda batch: batch.size)
        if largest.size == first.size or self.timings is None:
            return None
        at_once = int(_BATCH_MS / self.timings.ms("dense") * first.size)
        size = min(max(at_once, 2 * first.size), largest.size)
        inputs = {name: values[:size] for name, values in largest.inputs.items()}
        batch = dataclasses.replace(largest, inputs=inputs)
        pair = [self.trials[0], self.chosen]
        timings = self._time(pair, batch, _BATCH_SHARE * self.seconds)
        return self._latency(timings, size)

    def _latency(self, timings: Timings | None, batch_size: int) -> Latency | None:
        if timings is None:
            return None
        name = self.chosen.name
        speed = timings.speed(name, "dense")
        return Latency(timings.ms("dense"), timings.ms(name), speed, batch_size)

    def _attempt(self, trial: Trial) -> Attempt:
        found, speed = trial.verification, None
        if self.timings is not None and trial.correct:
            speed = self.timings.speed(trial.name, "dense")
        differences = found.differences if found is not None else ()
        return Attempt(
            candidate=trial.name,
            bytes=None if trial.file is None else len(trial.file),
            correct=trial.correct if trial.needed else None,
            outcome=self._sentence(trial),
            gzip_bytes=_gzip_bytes(trial.made) if trial.correct else None,
            speed=speed,
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
        best = choose(unlabeled, self.optimize_for, self.timings)
        [refused] = [trial for trial in self.trials if trial.name == best.name]
        if not refused.loses_too_much or refused.drop is None:
            return []
        note = f"{refused.name!r} would be the best, but {refused.drop}."
        if refused.drop.may_be_chance:
            note += " So few samples can't tell that from chance: more of them can."
        return [note]

    def _sentence(self, trial: Trial) -> str:
        if trial.problem is not None:
            return trial.problem
        if trial is self.chosen:
            return "written"
        if trial.loses_too_much:
            return f"computes the same up to rounding, but {trial.drop}"
        share = len(trial.made) / len(self.chosen.made)
        sentence = f"correct, {share:.2f} times the bytes"
        if self.timings is None:
            return sentence
        speed = self.timings.speed(trial.name, self.chosen.name)
        if not speed.is_decided:
            return f"{sentence}, no difference in time shown"
        return f"{sentence} and {1 / speed.ratio:.2f} times the time"


def _gzip_bytes(file: bytes) -> int:
    """Returns the size of a file after gzip, which by itself takes level 6.

    With all of the zeros of a dense file, level 9 takes 15 times as long.
    """
    return len(gzip.compress(file, 6))


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
