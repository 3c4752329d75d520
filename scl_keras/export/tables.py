"""An export report as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scl_keras.export.report import Attempt, ExportReport


def report_text(report: ExportReport) -> str:
    """Returns a report as a few lines and tables.

    Args:
        report: An `ExportReport`.
    """
    return "\n".join(
        [
            f"{report.path} (candidate {report.candidate!r})",
            *_size_lines(report),
            *_difference_lines(report),
            *_tensor_lines(report),
            f"tried, to choose by {report.optimize_for}",
            *_attempt_lines(report),
            *report.notes,
        ]
    )


def _size_lines(report: ExportReport) -> list[str]:
    share = report.bytes_written / report.bytes_dense
    lines = [
        f"  {'bytes':<18} {report.bytes_written:>12,}  dense {report.bytes_dense:,}, "
        f"ratio {share:.3f}, bitmap limit {report.bytes_bitmap:,}",
        f"  {'bytes after gzip':<18} {report.gzip_written:>12,}  "
        f"dense {report.gzip_dense:,}",
    ]
    for found in (report.latency, report.batch_latency):
        if found is not None:
            lines.append(
                f"  {f'ms (batch {found.batch_size})':<18} {found.written_ms:>12.4f}  "
                f"dense {found.dense_ms:.4f}, {found.ratio:.2f}x as fast"
            )
    if report.accuracy is not None:
        lines.append(
            f"  {'accuracy':<18} {report.chosen.accuracy:>12.2%}  "
            f"Keras {report.accuracy:.2%}"
        )
    return lines


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
    def cell(value, form: str) -> str:
        return "-" if value is None else format(value, form)

    speed = cell(attempt.latency_ratio, ".2f")
    return (
        attempt.candidate,
        cell(attempt.bytes, ","),
        cell(attempt.gzip_bytes, ","),
        speed if speed == "-" else f"{speed}x",
        cell(attempt.largest_difference, ".1e"),
        cell(attempt.mean_difference, ".1e"),
        cell(attempt.accuracy, ".2%"),
        attempt.outcome,
    )


def _aligned(rows: list[tuple[str, ...]], right: set[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
