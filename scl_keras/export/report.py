"""What was written, and what is known about it."""

from __future__ import annotations

import dataclasses
from typing import Any

from scl_keras.export.measure import Latency
from scl_keras.export.verify import Difference


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
        bitmap_bytes: Four bytes a non-zero and one bit a weight.
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
    """One candidate.

    Attributes:
        candidate: Its name.
        bytes: Size of its file; None if there is none.
        correct: Whether the file may be handed out; None if it has no sparse kernel
            and is the dense file over again.
        outcome: A sentence on what came of it.
    """

    candidate: str
    bytes: int | None
    correct: bool | None
    outcome: str


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_tflite` wrote.

    Attributes:
        path: Where the file is.
        candidate: The encoding that was chosen.
        bytes_dense: Size of the plain converter's file.
        bytes_written: Size of the file at `path`.
        bytes_bitmap: Size the dense file would have with every kernel at its
            bitmap limit: four bytes a non-zero and one bit a weight.
        gzip_dense: Size of the plain converter's file after gzip.
        gzip_written: Size of the file at `path` after gzip.
        tensors: How each kernel is encoded.
        differences: Differences to Keras, by output and delegate.
        tolerance: The largest relative difference that was allowed.
        latency: Times of one inference; None if it was not measured.
        attempts: Every candidate and what came of it.
    """

    path: str
    candidate: str
    bytes_dense: int
    bytes_written: int
    bytes_bitmap: int
    gzip_dense: int
    gzip_written: int
    tensors: tuple[TensorEncoding, ...]
    differences: tuple[Difference, ...]
    tolerance: float
    latency: Latency | None
    attempts: tuple[Attempt, ...]

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
        figures["attempts"] = list(figures["attempts"])
        return figures | {
            "largest_difference": self.largest_difference,
            "largest_difference_without_delegate": (
                self.largest_difference_without_delegate
            ),
            "latency_ratio": self.latency_ratio,
            "repaired": self.repaired,
        }

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.path} (candidate {self.candidate!r})",
                *self._size_lines(),
                *self._difference_lines(),
                *self._tensor_lines(),
                "tried",
                *(f"  {a.candidate:<8} {a.outcome}" for a in self.attempts),
            ]
        )

    def _largest(self, delegate: str) -> float:
        return max(d.largest for d in self.differences if d.delegate == delegate)

    def _size_lines(self) -> list[str]:
        share = self.bytes_written / self.bytes_dense
        lines = [
            f"  {'bytes':<18} {self.bytes_written:>12,}  dense {self.bytes_dense:,}, "
            f"ratio {share:.3f}, bitmap limit {self.bytes_bitmap:,}",
            f"  {'bytes after gzip':<18} {self.gzip_written:>12,}  "
            f"dense {self.gzip_dense:,}",
        ]
        if self.latency is not None:
            lines.append(
                f"  {'ms (batch 1)':<18} {self.latency.written_ms:>12.4f}  "
                f"dense {self.latency.dense_ms:.4f}, {self.latency.ratio:.2f}x as fast"
            )
        return lines

    def _difference_lines(self) -> list[str]:
        lines = ["largest difference to Keras"]
        for found in self.differences:
            agreement = ""
            if found.agreement is not None:
                agreement = f", same largest entry in {found.agreement:.2%}"
            lines.append(
                f"  {found.output:<18} {found.largest:>12.2e}  {found.delegate}, "
                f"mean {found.mean:.2e}, relative {found.relative:.2e}{agreement}"
            )
        return lines

    def _tensor_lines(self) -> list[str]:
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
            for tensor in self.tensors
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.rjust(width) if column > 3 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
