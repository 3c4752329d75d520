"""What came of a compression: as data, as text and as a picture."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import keras
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from scl_keras.pipeline.goal import Goal
from scl_keras.pipeline.picture import draw
from scl_keras.rendering import as_plain_text
from scl_keras.report import SparsitySummary

if TYPE_CHECKING:
    from scl_keras.export import ExportReport

_MISSED = {
    "max_drop": "The bound was out of reach: this is the dense model.",
    "max_bytes": "The file is larger than was asked for.",
    "speedup": "The file isn't as fast as was asked for.",
}


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
        looks: `TargetAccuracy.history`; empty if something else was asked for.
        goal: What was asked for: its `kind`, such as `"max_drop"`, and its `value`.
        met: Whether it is as asked for: the metric within the bound, the file as small
            or as fast.
        export: What was written for the phone, an `ExportReport`, or None.
        in_file: Loss and metrics of that file on the validation data; None without one,
            and for a model with a `test_step` of its own.
        notes: Sentences on what else there is to do.

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
    goal: Goal
    met: bool
    export: ExportReport | None = None
    in_file: dict[str, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """What the metric has lost, on the validation data."""
        return self.lost(self.before, self.after)

    def lost(self, before: dict[str, float], after: dict[str, float]) -> float:
        """What the metric has lost between two measurements, larger or smaller.

        Args:
            before: Metrics by name.
            after: Later ones.
        """
        name = self.monitor.removeprefix("val_")
        less = before[name] - after[name]
        return less if self.larger_is_better else -less

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON-able data."""
        return {
            "goal": dataclasses.asdict(self.goal),
            "monitor": self.monitor,
            "met": self.met,
            "drop": self.drop,
            "before": self.before,
            "after": self.after,
            "connections": self.connections.as_dict(),
            "looks": list(self.looks),
            "in_file": self.in_file,
            "export": None if self.export is None else self.export.as_dict(),
            "notes": list(self.notes),
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

    def where(self) -> list[str]:
        """Where the multiply-accumulates and the bytes are that are left: lines."""
        found = []
        macs = {row.layer: row.sparse_macs for row in self.connections.rows}
        if all(macs.values()):
            found.append(f"Most multiply-accumulates: {_largest(macs)}.")
        if self.export is not None:
            size = {tensor.name: tensor.bytes for tensor in self.export.tensors}
            size["no kernel"] = self.export.bytes_written - sum(size.values())
            found.append(f"Most bytes: {_largest(size)}.")
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
        lines += self.where()
        if not self.met:
            lines.append(_MISSED.get(self.goal.kind, "It isn't what was asked for."))
        if (more := self.more()) is not None:
            lines.append(more)
        if self.export is not None:
            lines.append(f"{self.export.path}: {self.export.chosen.outcome}")
        return "\n".join([*lines, *self.notes])


def _largest(shares, count=3):
    """The largest of some numbers by name, in words."""
    whole = sum(shares.values())
    names = sorted(shares, key=shares.get, reverse=True)[:count]
    return ", ".join(f"{name} {100 * shares[name] / whole:.0f} %" for name in names)


def _row(name, before, after):
    less = f"{before / after:.3g}x" if after else ""
    return name, f"{before:,}", f"{after:,}", less
