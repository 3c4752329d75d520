"""What was written and what else was tried: as data, as text and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from scl_keras.export.latency import Latency
from scl_keras.export.picture import draw
from scl_keras.export.verification import Difference
from scl_keras.export.weights import TensorEncoding
from scl_keras.timing import Speed


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of one candidate. What isn't known, as of a file that fails, is None.

    Attributes:
        candidate: Its name.
        bytes: Size of its file.
        correct: Whether its file computes what Keras computes; None if it can't be
            better than another candidate's, and was not run.
        outcome: A sentence on what came of it, and why it was not chosen.
        gzip_bytes: Size of its file after gzip, if it is correct.
        speed: How many times as fast as the plain converter's file it is, with an
            interval.
        largest_difference: Largest absolute difference to Keras, over all outputs, with
            and without the delegate.
        mean_difference: The largest mean absolute difference of an output.
        accuracy: Share of the labels that it gets right with the default delegate.
        accuracy_drop: The accuracy of Keras less its own.
        accuracy_drop_error: The standard error of that, from differences by sample.
        chosen: Whether it was written.
    """

    candidate: str
    bytes: int | None
    correct: bool | None
    outcome: str
    gzip_bytes: int | None = None
    speed: Speed | None = None
    largest_difference: float | None = None
    mean_difference: float | None = None
    accuracy: float | None = None
    accuracy_drop: float | None = None
    accuracy_drop_error: float | None = None
    chosen: bool = False

    @property
    def latency_ratio(self) -> float | None:
        """Dense over its latency: above 1 it is faster, if `speed` shows it."""
        return None if self.speed is None else self.speed.ratio


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_tflite` wrote, and why.

    Attributes:
        path: Where the file is.
        candidate: The name of the candidate that was chosen.
        optimize_for: What it was chosen by.
        bytes_dense: Size of the plain converter's float32 file.
        bytes_written: Size of the file at `path`.
        bytes_bitmap: Size the dense file would have with every kernel at its
            bitmap limit: four bytes for each non-zero and one bit for each weight.
        gzip_dense: Size of the plain converter's file after gzip.
        gzip_written: Size of the file at `path` after gzip.
        tensors: How each kernel is encoded.
        differences: Differences to Keras, by output and delegate.
        tolerance: The largest relative difference that was allowed.
        latency: Times of one inference; None if it was not measured.
        batch_latency: The same for a larger batch; None also if the batch is fixed.
        accuracy: Accuracy of the Keras model, if labels were given.
        max_accuracy_drop: How much of it a file was allowed to lose.
        attempts: Every candidate and what came of it.
        notes: Sentences on what was found.

    Example:

    ```python
    report = export_tflite(model, "model.tflite", samples=x, latency_seconds=1)
    report.candidate, report.bytes_written, report.latency_ratio
    report.plot().savefig("export.png")
    ```
    """

    path: str
    candidate: str
    optimize_for: str
    bytes_dense: int
    bytes_written: int
    bytes_bitmap: int
    gzip_dense: int
    gzip_written: int
    tensors: tuple[TensorEncoding, ...]
    differences: tuple[Difference, ...]
    tolerance: float
    latency: Latency | None
    batch_latency: Latency | None
    accuracy: float | None
    max_accuracy_drop: float | None
    attempts: tuple[Attempt, ...]
    notes: tuple[str, ...]

    @property
    def chosen(self) -> Attempt:
        """The candidate that was written."""
        return next(attempt for attempt in self.attempts if attempt.chosen)

    @property
    def largest_difference(self) -> float:
        """Largest absolute difference to Keras with the default delegate."""
        return self._largest("default delegate")

    @property
    def largest_difference_without_delegate(self) -> float:
        """Largest absolute difference to Keras without a delegate."""
        return self._largest("no delegate")

    @property
    def dominant(self) -> TensorEncoding | None:
        """What takes the most bytes of the file; None if all kernels take less."""
        largest = max(self.tensors, key=lambda tensor: tensor.bytes, default=None)
        others = self.bytes_written - sum(tensor.bytes for tensor in self.tensors)
        return None if largest is None or largest.bytes < others else largest

    @property
    def latency_ratio(self) -> float | None:
        """Dense over written latency: above 1 the written file is faster."""
        return None if self.latency is None else self.latency.ratio

    @property
    def repaired(self) -> bool:
        """Whether the converter's own sparse file was wrong and is replaced."""
        return any(
            attempt.candidate == "sparse" and attempt.correct is False
            for attempt in self.attempts
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as plain types, ready for `json.dumps`."""
        figures = dataclasses.asdict(self)
        figures["tensors"] = [
            {**tensor, "shape": list(tensor["shape"])} for tensor in figures["tensors"]
        ]
        figures["differences"] = [
            {**dataclasses.asdict(difference), "relative": difference.relative}
            for difference in self.differences
        ]
        for key in ("attempts", "notes"):
            figures[key] = list(figures[key])
        return figures | {
            "largest_difference": self.largest_difference,
            "largest_difference_without_delegate": (
                self.largest_difference_without_delegate
            ),
            "latency_ratio": self.latency_ratio,
            "repaired": self.repaired,
        }

    def plot(self) -> Figure:
        """Draws the correct candidates by their bytes, and by their speed if timed.

        Returns:
            The matplotlib `Figure`.
        """
        return draw(self)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.path} (candidate {self.candidate!r})",
                *_size_lines(self),
                *_difference_lines(self),
                *_tensor_lines(self),
                f"tried, to choose by {self.optimize_for}",
                *_attempt_lines(self),
                *self.notes,
            ]
        )

    def _largest(self, delegate: str) -> float:
        return max(d.largest for d in self.differences if d.delegate == delegate)


def _size_lines(report: ExportReport) -> list[str]:
    share = report.bytes_written / report.bytes_dense
    lines = [
        f"  {'bytes':<18} {report.bytes_written:>12,}  dense {report.bytes_dense:,}, "
        f"ratio {share:.3f}, bitmap limit {report.bytes_bitmap:,}",
        f"  {'bytes after gzip':<18} {report.gzip_written:>12,}  "
        f"dense {report.gzip_dense:,}",
    ]
    lines.append(f"  {'most of the bytes':<18} {_most_of_the_bytes(report)}")
    for found in (report.latency, report.batch_latency):
        if found is not None:
            lines.append(
                f"  {f'ms (batch {found.batch_size})':<18} {found.written_ms:>12.4f}  "
                f"dense {found.dense_ms:.4f}, {found.speed}"
            )
    if report.accuracy is not None:
        lines.append(
            f"  {'accuracy':<18} {report.chosen.accuracy:>12.2%}  "
            f"Keras {report.accuracy:.2%}"
        )
    return lines


def _most_of_the_bytes(report: ExportReport) -> str:
    found, total = report.dominant, report.bytes_written
    if found is None:
        rest = total - sum(tensor.bytes for tensor in report.tensors)
        return f"{rest:>12,}  no kernel, but operators, biases and names"
    name, shape = found.name.rpartition(";")[2], "x".join(map(str, found.shape))
    return (
        f"{found.bytes:>12,}  {name}, {shape}, {found.encoding}: "
        f"{found.bytes / total:.0%} of the file"
    )


def _difference_lines(report: ExportReport) -> list[str]:
    lines = ["largest difference to Keras"]
    for found in report.differences:
        agreement = ""
        if found.agreement is not None:
            agreement = f", same largest entry in {found.agreement:.2%}"
        lines.append(
            f"  {found.output:<18} {found.largest:>12.2e}  {found.delegate}, "
            f"mean {found.mean:.2e}, relative {found.relative:.2e}{agreement}"
        )
    return lines


def _tensor_lines(report: ExportReport) -> list[str]:
    rows = [("kernel", "shape", "zeros", "encoding", "bytes", "bitmap limit")]
    rows += [
        (
            tensor.name.rpartition(";")[2],
            "x".join(map(str, tensor.shape)),
            f"{tensor.sparsity:.1%}",
            tensor.encoding,
            f"{tensor.bytes:,}",
            f"{tensor.bitmap_bytes:,}",
        )
        for tensor in report.tensors
    ]
    return _aligned(rows, right={4, 5})


def _attempt_lines(report: ExportReport) -> list[str]:
    header = ("candidate", "bytes", "gzip", "speed", "largest", "mean", "accuracy", "")
    rows = [header, *(_attempt_row(attempt) for attempt in report.attempts)]
    # A column that says nothing would only take room.
    shown = [
        column
        for column in range(len(header))
        if column == len(header) - 1 or any(row[column] != "-" for row in rows[1:])
    ]
    rows = [tuple(row[column] for column in shown) for row in rows]
    lines = _aligned(rows, right=set(range(1, len(shown) - 1)))
    return [f"  {line}" for line in lines]


def _attempt_row(attempt: Attempt) -> tuple[str, ...]:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        attempt.candidate,
        cell(attempt.bytes, ","),
        cell(attempt.gzip_bytes, ","),
        _speed_cell(attempt.speed),
        cell(attempt.largest_difference, ".1e"),
        cell(attempt.mean_difference, ".1e"),
        cell(attempt.accuracy, ".2%"),
        attempt.outcome,
    )


def _speed_cell(speed: Speed | None) -> str:
    if speed is None:
        return "-"
    if speed.is_decided:
        return f"{speed.ratio:.2f}x"
    return "same" if speed.is_close else "unclear"


def _aligned(rows: Sequence[tuple[str, ...]], right: set[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
