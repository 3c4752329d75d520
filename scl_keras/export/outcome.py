"""From what was tried to a report: times, choice, figures."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import pathlib

import numpy as np

from scl_keras.export.candidates import Trial
from scl_keras.export.choose import choose
from scl_keras.export.latency import Latency, measure_latencies
from scl_keras.export.notes import make_notes
from scl_keras.export.reference import Batch, Reference
from scl_keras.export.report import Attempt, ExportReport, TensorEncoding
from scl_keras.export.verification import accuracy
from scl_keras.export.weights import Weights, read_weights

_BATCH_SHARE = 0.1  # of the time to measure, for the larger batch


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of the candidates.

    Attributes:
        dense: The plain converter's file.
        trials: One a candidate, the plain one first.
        reference: What the model computes.
        labels: Labels of the samples, or None.
        optimize_for: What to choose by.
        dtype: The coarsest precision allowed.
        seconds: How long to time the files; 0 for not at all.
    """

    dense: bytes
    trials: list[Trial]
    reference: Reference
    labels: np.ndarray | None
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
        weights = tuple(read_weights(self.dense))
        unpacked = sum(kernel.values.nbytes for kernel in weights)
        bitmap = sum(kernel.bitmap_bytes for kernel in weights)
        batch_latency = self._batch_latency()
        ratios = {name: self.times["dense"] / ms for name, ms in self.times.items()}
        notes = make_notes(
            chosen, self.trials, weights, ratios, batch_latency, self.dtype
        )
        return ExportReport(
            path=str(path),
            candidate=chosen.name,
            optimize_for=self.optimize_for,
            bytes_dense=len(self.dense),
            bytes_written=len(chosen.file),
            bytes_bitmap=len(self.dense) - unpacked + bitmap,
            gzip_dense=_gzip_bytes(self.dense),
            gzip_written=_gzip_bytes(chosen.file),
            tensors=tuple(map(_encoding, chosen.weights)),
            differences=chosen.verification.differences,
            tolerance=chosen.verification.tolerance,
            latency=self._latency(self.times, self.reference.batches[0].size),
            batch_latency=batch_latency,
            accuracy=self._accuracy(),
            attempts=tuple(self._attempt(t, ratios) for t in self.trials),
            notes=notes,
        )

    def _time(self, trials, batch: Batch, seconds: float) -> dict[str, float]:
        files = {trial.name: trial.file for trial in trials if trial.correct}
        if not seconds or "dense" not in files:
            return {}
        return measure_latencies(files, batch.inputs, seconds)

    def _batch_latency(self) -> Latency | None:
        """The same for several samples at once, where the batch size is open."""
        largest = max(self.reference.batches, key=lambda batch: batch.size)
        if largest.size == self.reference.batches[0].size:
            return None
        pair = [self.trials[0], self.chosen]
        times = self._time(pair, largest, _BATCH_SHARE * self.seconds)
        return self._latency(times, largest.size)

    def _latency(self, times, batch_size: int) -> Latency | None:
        if not times:
            return None
        return Latency(times["dense"], times[self.chosen.name], batch_size)

    def _accuracy(self) -> float | None:
        if self.labels is None:
            return None
        answers = [batch.outputs for batch in self.reference.batches]
        return accuracy(self.labels, self.reference, answers)

    def _attempt(self, trial: Trial, ratios) -> Attempt:
        found = trial.verification
        differences = found.differences if found is not None else ()
        return Attempt(
            candidate=trial.name,
            bytes=None if trial.file is None else len(trial.file),
            correct=trial.correct if trial.needed else None,
            outcome=self._outcome(trial, ratios),
            gzip_bytes=None if trial.file is None else _gzip_bytes(trial.file),
            latency_ratio=ratios.get(trial.name),
            largest_difference=max((d.largest for d in differences), default=None),
            mean_difference=max((d.mean for d in differences), default=None),
            accuracy=None if found is None else found.accuracy,
            chosen=trial is self.chosen,
        )

    def _outcome(self, trial: Trial, ratios) -> str:
        if trial.problem is not None:
            return trial.problem
        if trial is self.chosen:
            return "written"
        share = len(trial.file) / len(self.chosen.file)
        outcome = f"correct, {share:.2f} times the bytes"
        if ratios:
            time = ratios[self.chosen.name] / ratios[trial.name]
            outcome += f" and {time:.2f} times the time"
        return outcome


def _encoding(kernel: Weights) -> TensorEncoding:
    return TensorEncoding(
        name=kernel.name,
        shape=kernel.values.shape,
        sparsity=1 - kernel.nonzero / kernel.values.size,
        encoding=kernel.encoding,
        bytes=kernel.bytes,
        dense_bytes=kernel.values.nbytes,
        bitmap_bytes=kernel.bitmap_bytes,
    )


def _gzip_bytes(file: bytes) -> int:
    """Returns the size of a file after gzip, as an app store compresses it."""
    return len(gzip.compress(file))
