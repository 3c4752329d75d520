"""Accuracy against what is left: pictures of the results."""

import numpy as np
from matplotlib.figure import Figure

from comparison.cells import asked_compressions, cells_of, geometric_mean, groups
from comparison.methods import DENSE, METHODS
from comparison.tasks import PROTOCOLS, TITLES, title_of
from scl_keras.report.style import (
    QUIET,
    STRONG,
    end_labels,
    in_words,
    new_axes,
    percent,
    styled,
)

AXES = {
    "effective compression": lambda r: r["effective_compression"],
    "multiply-accumulates, dense / effective": lambda r: (
        r["macs"] / max(r["effective_macs"], 1)
    ),
}
"""What is drawn to the right, and how it is found in a result."""

TICKS = (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98)
TICKS += (0.985, 0.99, 0.995)

LINES = {"scl": "-", "scl_distilled": (0, (1, 1)), "scl_plain": "--"}
"""SCL, and how other ways of it are drawn in its color."""

NAMED = ("gradual", "tfmot", "lamp", "switcher")
"""Of the other methods those that have their names in the picture."""


@styled
def draw(results, validation=False):
    """Draws accuracy by effective compression, and by multiply-accumulates.

    A point is the mean of the seeds at one compression asked for, at the geometric mean
    of what came out; the band is the range of the seeds.

    Args:
        results: Dicts as `Store` keeps them.
        validation: Whether to draw what was measured on a validation split.

    Returns:
        A matplotlib `Figure`: a row for each task, a column for each of `AXES`. Tasks
        with a single compression, which are no frontiers, are drawn if there are no
        others.
    """
    tasks = groups(results, validation)
    frontiers = {t: r for t, r in tasks.items() if len(asked_compressions(r)) > 1}
    tasks = frontiers or tasks
    size = (1 + 5.5 * len(AXES), 4.5 * len(tasks))
    figure = Figure(figsize=size)
    panels = figure.subplots(len(tasks), len(AXES), squeeze=False)
    for row, (task, some) in zip(panels, tasks.items(), strict=True):
        for axes, (label, value) in zip(row, AXES.items(), strict=True):
            title = f"{title_of(task)}, {TITLES[task.dataset]}"
            title += f", {PROTOCOLS[task.protocol]}"
            axes.set(xscale="log", xlabel=label, title=title)
            axes.set_xlim(_limits(some, value))
            in_words(axes.xaxis, "{:g}x".format)
            lines = _panel(axes, some, value)
            _stretch(axes)
            end_labels(axes, lines)
    return figure


@styled
def headline(results, network="small_vgg"):
    """Draws accuracy by compression of one trained network, in one panel.

    Args:
        results: Dicts as `Store` keeps them.
        network: Its name.

    Returns:
        A matplotlib `Figure`, or None without results of it.
    """
    for task, some in groups(results, validation=False).items():
        if task.network == network and task.protocol == "finetuned":
            value = AXES["effective compression"]
            axes = new_axes(8, 3.6)
            title = f"Accuracy of a {title_of(task)} on {TITLES[task.dataset]}"
            label = "times fewer connections on a path from input to output"
            axes.set(xscale="log", xlabel=label, title=title)
            axes.set_xlim(_limits(some, value))
            in_words(axes.xaxis, "{:g}x".format)
            in_words(axes.yaxis, percent)
            end_labels(axes, _panel(axes, some, value, ("dense", "scl", *NAMED)))
            return axes.figure
    return None


def _limits(results, value):
    """Around all values, and apart where they are alike."""
    shown = [
        value(r)
        for r in results
        if not r["cut_off"] and r["setting"]["method"] not in DENSE
    ]
    return min(shown, default=1) / 1.3, max(shown, default=1) * 1.3


def _panel(axes, results, value, only=METHODS):
    """Draws the lines of a panel, and returns what `end_labels` needs of them."""
    connected = [r for r in results if not r["cut_off"]]
    points = cells_of(connected)
    ends = []
    for name, method in METHODS.items():
        asked = sorted(c for known, c in points if known == name)
        other_scl = name.startswith("scl") and name not in LINES
        if not asked or name == "trained" or other_scl or name not in only:
            continue
        if name == "dense":
            dense = np.mean([r["accuracy"] for r in points[name, 1]])
            axes.axhline(dense, color="0.4", linestyle=":", linewidth=1)
            above = {"xytext": (2, 3), "textcoords": "offset points"}
            begin = axes.get_xlim()[0], dense
            axes.annotate("dense", begin, color="0.4", fontsize="small", **above)
            continue
        by_asked = [points[name, c] for c in asked]
        x = [geometric_mean([value(r) for r in some]) for some in by_asked]
        accuracies = [[r["accuracy"] for r in some] for some in by_asked]
        y = [np.mean(a) for a in accuracies]
        strong = name in LINES
        color = STRONG if strong else QUIET
        line = {"linestyle": LINES.get(name, "-"), "linewidth": 2 if strong else 1}
        axes.plot(x, y, "o", color=color, zorder=3 if strong else 2, **line)
        if name == "scl":
            low, high = map(min, accuracies), map(max, accuracies)
            axes.fill_between(x, list(low), list(high), alpha=0.15, color=color)
        if strong or name in NAMED:
            title = method.title.replace("`", "")
            ends.append((x[-1], y[-1], title, STRONG if strong else "0.5"))
    return ends


def _stretch(axes):
    """Shows differences near 100 % as well as those near guessing."""
    axes.set_yscale("logit", nonpositive="clip")
    low, high = axes.get_ylim()
    axes.set_yticks([t for t in TICKS if low <= t <= high])
    in_words(axes.yaxis, percent)
