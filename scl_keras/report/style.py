"""How pictures look: one style, and one strong color, for all of them."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

STRONG = "#c8324a"
"""The color of what a picture is about: the sparse model, the file, SCL."""

QUIET = "#b8b8b8"
"""The color of what it is compared with."""

_NARROW = 30  # a ratio of ends: powers of ten alone would be too few marks
_STYLE = pathlib.Path(__file__).with_name("scl_keras.mplstyle")


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Has a function that makes a picture make it in the style of this package."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.style.context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure, sizes in inches."""
    return Figure(figsize=(width, height)).add_subplot()


def in_words(axis: Axis, write: Callable[[float], str]) -> None:
    """Plain numbers along an axis, such as "10x" by `"{:g}x".format`."""
    low, high = axis.get_view_interval()
    if axis.get_scale() == "log" and high < _NARROW * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_locator(NullLocator())


def percent(share: float) -> str:
    """A share in percent, with as many digits as it takes: "98.5 %"."""
    return f"{100 * share:g} %"


def share_bars(axes: Axes, shares: dict[str, float], notes: dict[str, str]) -> None:
    """Horizontal bars of shares from 0 to 1, with a note beside each.

    Args:
        axes: What to draw on.
        shares: Floats by their names, from the top down.
        notes: What to write beside each bar, by the same names.
    """
    names = list(shares)
    axes.barh(names, [1] * len(names), color="0.94")
    axes.barh(names, list(shares.values()), color=STRONG)
    for place, name in enumerate(names):
        where = min(shares[name], 1) + 0.015
        axes.text(where, place, notes[name], va="center", color="0.25")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xticks=[0, 0.25, 0.5, 0.75, 1])
    in_words(axes.xaxis, "{:.0%}".format)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the ends of lines, moved apart where they would overlap.

    Args:
        axes: What to draw on, when all else is drawn.
        ends: A tuple a line: x and y of its end, its name, and its color.
    """
    axes.get_xlim(), axes.get_ylim()  # which makes them final
    points = 72 / axes.figure.dpi
    pixels = [axes.transData.transform((x, y))[1] for x, y, _, _ in ends]
    lowest = float("-inf")
    for i in sorted(range(len(ends)), key=pixels.__getitem__):
        x, y, name, color = ends[i]
        lowest = max(pixels[i] * points, lowest + _LINE)
        axes.annotate(
            name,
            (x, y),
            xytext=(6, lowest - pixels[i] * points),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize="small",
            annotation_clip=False,
        )


_LINE = 11  # points from one line of small letters to the next
