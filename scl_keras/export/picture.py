"""The picture of an export: the files that were tried, by bytes and speed."""

import itertools

from matplotlib.figure import Figure

from scl_keras.report.style import QUIET, STRONG, in_words, styled

_MOST = 12


@styled
def draw(report):
    """Bars of bytes and speeds, the file that was written in a color of its own.

    Args:
        report: An `ExportReport`.

    Returns:
        A matplotlib `Figure`, of one panel where nothing was timed.
    """
    right = sorted((a for a in report.attempts if a.correct), key=lambda a: a.bytes)
    # Of many, the written file, the largest, and the smallest and fastest in turns.
    fast = sorted(right, key=lambda a: -(a.latency_ratio or 0))
    turns = itertools.chain.from_iterable(zip(right, fast, strict=True))
    wanted = dict.fromkeys(id(a) for a in (report.chosen, right[-1], *turns))
    shown = set(list(wanted)[:_MOST])
    rows = [a for a in right if id(a) in shown]
    names = [a.candidate for a in rows]
    colors = [STRONG if a.chosen else QUIET for a in rows]
    panels = 1 if report.latency is None else 2
    figure = Figure(figsize=(1.5 + 4 * panels, 1.2 + 0.3 * len(rows)))
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    _bars(axes[0], names, [a.bytes for a in rows], colors, "{:,.0f}".format, "Bytes")
    if panels == 2:
        speeds = [a.latency_ratio or 0 for a in rows]
        _bars(
            axes[1], names, speeds, colors, "{:.3g}x".format, "Times as fast as dense"
        )
    axes[0].invert_yaxis()
    left_out = len(right) - len(rows)
    wrong = sum(a.correct is False for a in report.attempts)
    notes = [f"chosen by {report.optimize_for}"]
    notes += [f"{left_out} others not shown"] * bool(left_out)
    notes += [f"{wrong} wrong or unusable files not shown"] * bool(wrong)
    axes[0].set_xlabel("; ".join(notes), loc="left", fontsize="small")
    return figure


def _bars(axes, names, values, colors, write, title):
    axes.barh(names, values, color=colors)
    for place, (value, color) in enumerate(zip(values, colors, strict=True)):
        strong = color == STRONG
        axes.annotate(
            write(value) if value else "not timed",
            (value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=STRONG if strong else "0.4",
        )
    axes.set_title(title)
    axes.set_xlim(0, 1.2 * max(values, default=1))
    in_words(axes.xaxis, write)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
