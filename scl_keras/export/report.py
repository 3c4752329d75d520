"""What was written, what else was tried, and what is known about all of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from scl_keras.export.latency import Latency
from scl_keras.export.picture import draw
from scl_keras.export.tables import report_text
from scl_keras.export.verification import Difference


@dataclasses.dataclass(frozen=True)
class TensorEncoding:
    """How the file holds one constant of rank two or more.

    Attributes:
        name: The converter's name.
        shape: Shape in the file: a Dense kernel is (outputs, inputs), a
            convolution (outputs, height, width, inputs).
        sparsity: Share of zeros.
        encoding: "dense", "csr" (rows along the last axis), "csr axis 0", ...,
            "block 1x4".
        bytes: Size in the file, values and indices.
        dense_bytes: Size of the plain array.
        bitmap_bytes: A value a non-zero and one bit a weight.
    """

    name: str
    shape: tuple[int, ...]
    sparsity: float
    encoding: str
    bytes: int
    dense_bytes: int
    bitmap_bytes: int


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One candidate. What isn't known of it, such as of a file that fails, is None.

    Attributes:
        candidate: Its name.
        bytes: Size of its file.
        correct: Whether the file may be handed out; None if it would be another
            candidate over again.
        outcome: A sentence on what came of it, and why it was not chosen.
        gzip_bytes: Size of its file after gzip.
        latency_ratio: How many times as fast as the plain converter's file it is.
        largest_difference: Largest absolute difference to Keras, over all outputs, with
            and without the delegate.
        mean_difference: The largest mean absolute difference of an output.
        accuracy: Share of the labels that it gets right with the default delegate.
        chosen: Whether it was written.
    """

    candidate: str
    bytes: int | None
    correct: bool | None
    outcome: str
    gzip_bytes: int | None = None
    latency_ratio: float | None = None
    largest_difference: float | None = None
    mean_difference: float | None = None
    accuracy: float | None = None
    chosen: bool = False


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
            bitmap limit: four bytes a non-zero and one bit a weight.
        gzip_dense: Size of the plain converter's file after gzip.
        gzip_written: Size of the file at `path` after gzip.
        tensors: How each kernel is encoded.
        differences: Differences to Keras, by output and delegate.
        tolerance: The largest relative difference that was allowed.
        latency: Times of one inference; None if it was not measured.
        batch_latency: The same for a larger batch; None also if the batch is fixed.
        accuracy: Accuracy of the Keras model, if labels were given.
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

    def plot(self, axes=None):
        """Draws every correct candidate by its bytes and its latency.

        Args:
            axes: Matplotlib axes to draw on; by default those of a new figure.

        Returns:
            The matplotlib `Figure`.
        """
        return draw(self, axes)

    def __str__(self) -> str:
        return report_text(self)

    def _largest(self, delegate: str) -> float:
        return max(d.largest for d in self.differences if d.delegate == delegate)
