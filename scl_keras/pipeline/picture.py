"""The picture of a compression."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter


def draw(result):
    """The metric by compression, where it went by it, and what is left of what.

    Args:
        result: A `Compressed`.

    Returns:
        A matplotlib `Figure`.
    """
    panels = 2 if result.looks else 1
    figure = Figure(figsize=(5 * panels, 3.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if result.looks:
        _draw_looks(axes[0], result)
    _draw_shares(axes[-1], result)
    return figure


def _draw_looks(axes, result):
    looks = result.looks
    compressions = [look["compression"] for look in looks]
    drops = [look["drop"] for look in looks]
    axes.plot(compressions, drops, "o-", color="0.7", zorder=1)
    reached = result.connections.compression, result.drop
    axes.plot(*reached, "o", color="tab:red", markersize=9)
    offset = {"xytext": (8, 8), "textcoords": "offset points"}
    axes.annotate(f"{reached[0]:.3g}x", reached, color="tab:red", **offset)
    axes.axhline(looks[-1]["may_lose"], color="0.4", linestyle=":")
    axes.set(
        xscale="log",
        xlabel="compression",
        ylabel=f"lost of {result.monitor.removeprefix('val_')}",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_shares(axes, result):
    table, export = result.connections, result.export
    shares = {"connections": table.kept / table.connections}
    if table.macs and table.sparse_macs:
        shares["multiply-accumulates"] = table.sparse_macs / table.macs
    if export is not None:
        shares["bytes"] = export.bytes_written / export.bytes_dense
        if export.latency is not None and export.latency.speed.is_decided:
            shares["time"] = 1 / export.latency.speed.ratio
    names = list(shares)[::-1]
    values = [100 * shares[name] for name in names]
    axes.barh(names, [100] * len(names), color="0.93")
    axes.barh(names, values, color="tab:red")
    for place, value in enumerate(values):
        axes.text(min(value + 2, 101), place, f"{value:.3g} %", va="center")
    axes.set(xlim=(0, 115), xlabel="% of the dense model")
    axes.spines[["top", "right", "left"]].set_visible(False)
