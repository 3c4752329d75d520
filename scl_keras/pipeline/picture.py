"""The picture of a compression."""

from matplotlib.figure import Figure

from scl_keras.report.style import QUIET, STRONG, in_words, share_bars, styled


@styled
def draw(result):
    """The metric by compression, where it went by it, and what is left of what.

    Args:
        result: A `Compressed`.

    Returns:
        A matplotlib `Figure`.
    """
    panels = 2 if result.looks else 1
    figure = Figure(figsize=(5 * panels, 3.5))
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if result.looks:
        _draw_looks(axes[0], result)
    _draw_shares(axes[-1], result)
    return figure


def _draw_looks(axes, result):
    looks = result.looks
    compressions = [look["compression"] for look in looks]
    drops = [look["drop"] for look in looks]
    axes.plot(compressions, drops, "o-", color=QUIET, zorder=1)
    reached = result.connections.compression, result.drop
    axes.plot(*reached, "o", color=STRONG, markersize=9)
    offset = {"xytext": (8, 8), "textcoords": "offset points"}
    axes.annotate(f"{reached[0]:.3g}x", reached, color=STRONG, **offset)
    bound = looks[-1]["may_lose"]
    axes.axhline(bound, color="0.4", linestyle=":")
    above = {"xytext": (0, 4), "textcoords": "offset points", "fontsize": "small"}
    axes.annotate("what may be lost", (1, bound), color="0.4", **above)
    name = result.monitor.removeprefix("val_")
    axes.set(xscale="log", xlabel="compression", title=f"Lost of {name}")
    in_words(axes.xaxis, "{:g}x".format)


def _draw_shares(axes, result):
    table, export = result.connections, result.export
    shares = {"connections": table.kept / table.connections}
    if table.macs and table.sparse_macs:
        shares["multiply-accumulates"] = table.sparse_macs / table.macs
    if export is not None:
        shares["bytes"] = export.bytes_written / export.bytes_dense
        if export.latency is not None and export.latency.speed.is_decided:
            shares["time"] = 1 / export.latency.speed.ratio
    share_bars(axes, shares, {name: f"{share:.2%}" for name, share in shares.items()})
    axes.set_title("What is left of the dense model")
