"""What came of a compression: as data, as text and as a picture."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import keras
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from scl_keras.pipeline.picture import draw
from scl_keras.rendering import as_plain_text
from scl_keras.report import SparsitySummary

if TYPE_CHECKING:
    from scl_keras.export import ExportReport


@dataclasses.dataclass(frozen=True)
class Compressed:
    """What `compress` made. `print` it; `plot()` draws it.

    Attributes:
        model: The sparse model, a stock Keras model: connections that were cut are
            zeros. It is compiled as the dense one was.
        compact: The same function without dead units and channels, a Keras model.
        monitor: The metric that it went by, as `fit` calls it.
        larger_is_better: Whether that metric is to be large.
        before: Loss and metrics of the dense model on the validation data.
        after: Those of the sparse one.
        connections: What is left of each kernel, a `SparsitySummary`.
        looks: `TargetAccuracy.history`; empty if a sparsity was asked for.
        met: Whether the metric is within the bound.
        export: What was written for the phone, an `ExportReport`, or None.
        in_file: Loss and metrics of that file on the validation data; None without one,
            and for a model with a `test_step` of its own.

    Example:

    ```python
    result = compress(dense_model, (x, y), (x, y), compression=4, epochs=3)
    result.plot().savefig("compressed.png")
    ```
    """

    model: keras.Model
    compact: keras.Model
    monitor: str
    larger_is_better: bool
    before: dict[str, float]
    after: dict[str, float]
    connections: SparsitySummary
    looks: tuple[dict[str, float], ...]
    met: bool
    export: ExportReport | None = None
    in_file: dict[str, float] | None = None

    @property
    def drop(self) -> float:
        """What the metric has lost, on the validation data."""
        name = self.monitor.removeprefix("val_")
        lost = self.before[name] - self.after[name]
        return lost if self.larger_is_better else -lost

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON-able data."""
        return {
            "monitor": self.monitor,
            "met": self.met,
            "drop": self.drop,
            "before": self.before,
            "after": self.after,
            "connections": self.connections.as_dict(),
            "looks": list(self.looks),
            "in_file": self.in_file,
            "export": None if self.export is None else self.export.as_dict(),
        }

    def plot(self) -> Figure:
        """Draws the metric by compression, and bytes before and after.

        Returns:
            A matplotlib `Figure`.
        """
        return draw(self)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """What, before, after, and how many times less: texts."""
        table, export = self.connections, self.export
        found = [
            (name, f"{value:.4g}", f"{self.after[name]:.4g}", "")
            for name, value in self.before.items()
        ]
        if self.in_file is not None:
            name = self.monitor.removeprefix("val_")
            found.append((f"{name} of the file", "", f"{self.in_file[name]:.4g}", ""))
        found.append(_row("connections", table.connections, table.kept))
        if table.macs and table.sparse_macs:
            found.append(_row("multiply-accumulates", table.macs, table.sparse_macs))
        if export is not None:
            found.append(_row("bytes", export.bytes_dense, export.bytes_written))
            found.append(("bytes, gzip", "", f"{export.gzip_written:,}", ""))
            if export.latency is not None:
                speed = export.latency.speed
                shown = f"{speed.ratio:.3g}x" if speed.is_decided else "not shown"
                found.append(("speed", "", "", shown))
        return found

    def more(self) -> str | None:
        """What would have to be given up for more, in a sentence, or None."""
        reached = self.connections.compression
        further = [x for x in self.looks if x["compression"] > 1.1 * reached]
        if not further:
            return None
        best = min(further, key=lambda x: x["drop"])
        return (
            f"For more: the best that was seen beyond had lost {best['drop']:.3g} of "
            f"{self.monitor} at {best['compression']:.3g}x."
        )

    def __str__(self) -> str:
        table = Table(box=box.SQUARE, title=f'"{self.model.name}", compressed')
        for head in ("", "before", "after", "less"):
            table.add_column(head, justify="right" if head else "left")
        for row in self.rows():
            table.add_row(*row)
        lines = [as_plain_text(table, width=88)]
        if not self.met:
            lines.append("The bound was out of reach: this is the dense model.")
        if (more := self.more()) is not None:
            lines.append(more)
        if self.export is not None:
            lines.append(f"{self.export.path}: {self.export.chosen.outcome}")
        return "\n".join(lines)


def _row(name, before, after):
    less = f"{before / after:.3g}x" if after else ""
    return name, f"{before:,}", f"{after:,}", less
