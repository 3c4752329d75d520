"""What is left of a network, as a table of text."""

from rich import box
from rich.table import Table

from scl_keras.rendering import as_plain_text


def as_text(summary):
    """The table of a `SparsitySummary`, and what there is to say of it.

    Args:
        summary: The `SparsitySummary`.

    Returns:
        A string of several lines.
    """
    table = Table(box=box.SQUARE, title=f'Connections of "{summary.name}"')
    table.add_column("Layer (type)", overflow="fold")
    for title in ("Kept / all", "Sparsity", "Eff. sparsity", "Dead"):
        table.add_column(title, justify="right")
    for title in ("Dead features", "MACs sparse / dense"):
        table.add_column(title, justify="right")
    for row in summary.rows:
        table.add_row(
            f"{row.layer} ({_kind(row)})" + (" *" if row.down_to_last else ""),
            f"{row.kept:,} / {row.connections:,}",
            f"{row.sparsity:.2%}",
            _or_unknown(row.effective_sparsity, ".2%"),
            _or_unknown(row.dead, ","),
            f"{row.dead_features:,} / {row.features:,}",
            _pair(row.sparse_macs, row.macs),
        )
    table.add_section()
    table.add_row(
        f"Total, compression {summary.compression:.1f}x, "
        f"effective {_or_unknown(summary.effective_compression, '.1f')}x",
        f"{summary.kept:,} / {summary.connections:,}",
        f"{summary.sparsity:.2%}",
        _or_unknown(summary.effective_sparsity, ".2%"),
        _or_unknown(summary.dead, ","),
        f"{sum(r.dead_features for r in summary.rows):,} / "
        f"{sum(r.features for r in summary.rows):,}",
        _pair(summary.sparse_macs, summary.macs),
    )
    text = f"{as_plain_text(table)}\n{_of_all(summary)}"
    if any(row.down_to_last for row in summary.rows):
        text += "\n* down to its last connection"
    if summary.unmasked:
        text += "\nNot maskable: " + ", ".join(summary.unmasked)
    if summary.fully_connected:
        text += "\nTaken as fully connected: " + ", ".join(summary.fully_connected)
    if summary.without_effective:
        text += f"\nNo effective connections: {summary.without_effective}"
    return text


def _of_all(summary):
    """The sparsity of what is masked, and that of the whole model."""
    cut = f"{summary.model_sparsity:.2%} of the model's {summary.weights:,} weights cut"
    if summary.masked_sparsity is None:
        return f"No masks; {cut}"
    masked = [row for row in summary.rows if row.masked]
    size = sum(row.connections for row in masked)
    return (
        f"{summary.masked_sparsity:.2%} of the {size:,} connections with a mask cut "
        f"({len(masked)} of {len(summary.rows) + len(summary.unmasked)} kernels), {cut}"
    )


def _kind(row):
    by_connection = row.granularity == "connection"
    return row.layer_type if by_connection else f"{row.layer_type}, {row.granularity}"


def _or_unknown(number, form):
    return "?" if number is None else format(number, form)


def _pair(sparse, dense):
    return "?" if dense is None else f"{sparse:,} / {dense:,}"
