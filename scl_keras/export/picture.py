"""An export report as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from scl_keras.export.report import ExportReport


def draw(report: ExportReport, axes: Axes | None = None) -> Figure:
    """Draws every correct candidate by its bytes and its latency.

    Without latencies the bytes alone are drawn.

    Args:
        report: An `ExportReport`.
        axes: Matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The matplotlib `Figure`.
    """
    correct = [attempt for attempt in report.attempts if attempt.correct]
    if axes is None:
        height = 5 if report.latency else 1.5 + 0.35 * len(correct)
        axes = Figure(figsize=(8, height), layout="constrained").add_subplot()
    if report.latency is None:
        _draw_bytes(correct, axes)
    else:
        _draw_speed(correct, axes)
    axes.axvline(report.bytes_bitmap, color="0.5", linestyle=":", label="bitmap limit")
    wrong = sum(attempt.correct is False for attempt in report.attempts)
    axes.set(
        xlabel="bytes",
        xscale="log",
        title=f"{report.candidate!r} is written (best by {report.optimize_for}); "
        f"{wrong} wrong or unusable files aren't shown",
    )
    axes.title.set_fontsize("medium")
    axes.legend(fontsize="small")
    return axes.figure


def _draw_bytes(correct, axes: Axes) -> None:
    colors = ["C3" if attempt.chosen else "C0" for attempt in correct]
    names = [attempt.candidate for attempt in correct]
    axes.barh(names, [attempt.bytes for attempt in correct], color=colors)
    axes.invert_yaxis()


def _draw_speed(correct, axes: Axes) -> None:
    for attempt in correct:
        point = attempt.bytes, attempt.latency_ratio
        color = "C3" if attempt.chosen else "C0"
        axes.plot(*point, "o", color=color, label="written" if attempt.chosen else None)
        axes.annotate(
            attempt.candidate,
            point,
            xytext=(5, 3),
            textcoords="offset points",
            fontsize="small",
        )
    axes.axhline(1, color="0.8", zorder=0)
    axes.set(ylabel="times as fast as the plain converter's file", yscale="log")
    axes.margins(0.15)
