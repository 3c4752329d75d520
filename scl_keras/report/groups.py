"""Proof that masks are N:M sparse: the fullest group of each kernel."""

import dataclasses
from typing import Any

import keras
from rich import box
from rich.table import Table

from scl_keras.graph.kernels import prunable_kernels
from scl_keras.masks.granularity import NM
from scl_keras.rendering import as_plain_text


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """The groups of one kernel.

    Attributes:
        layer: The layer's name and the kernel's, such as `"dense_1/kernel"`.
        layer_type: Class name of the layer.
        shape: Shape of the kernel.
        granularity: The `NM` that it is checked for.
        groups: Number of its groups, shorter ones included.
        most_kept: Number of connections kept in the fullest of them.
    """

    layer: str
    layer_type: str
    shape: tuple
    granularity: NM
    groups: int
    most_kept: int

    @property
    def holds(self) -> bool:
        """Whether no group keeps more than it may."""
        return self.most_kept <= self.granularity.n


@dataclasses.dataclass(frozen=True)
class GroupCheck:
    """Whether the groups of a model's kernels hold: rows, and a table as text.

    Attributes:
        name: Name of the model.
        rows: A `GroupRow` for each kernel that was checked.

    Example:

    ```python
    check = check_groups(prune(dense_model, granularity=NM(2, 4), copy=True))
    check.holds, [row.most_kept for row in check.rows]  # (True, [2, 2])
    ```
    """

    name: str
    rows: tuple

    @property
    def holds(self) -> bool:
        """Whether no group of any kernel keeps more than it may."""
        return all(row.holds for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        rows = [
            {
                **dataclasses.asdict(row),
                "granularity": str(row.granularity),
                "holds": row.holds,
            }
            for row in self.rows
        ]
        return {"name": self.name, "rows": rows, "holds": self.holds}

    def __str__(self):
        table = Table(box=box.SQUARE, title=f'Groups of "{self.name}"')
        for title in ("Layer (type)", "Granularity", "Groups", "Fullest", "Holds"):
            table.add_column(title, overflow="fold")
        for row in self.rows:
            table.add_row(
                f"{row.layer} ({row.layer_type})",
                str(row.granularity),
                f"{row.groups:,}",
                str(row.most_kept),
                "yes" if row.holds else "no",
            )
        return as_plain_text(table)


def check_groups(
    model: keras.layers.Layer, granularity: NM | None = None
) -> GroupCheck:
    """Counts the connections kept in each group of N:M sparse kernels.

    What is kept is what the model computes with: what masks keep, and in kernels
    without masks, as `strip_masks` leaves them, what isn't zero.

    Args:
        model: A built Keras model or layer, masked or stock.
        granularity: An `NM` to check all kernels for, those of layers that could have
            masks. By default those whose masks are of one, each for its own.

    Returns:
        A `GroupCheck`, which `str` makes a table of.

    Raises:
        ValueError: If `granularity` is no `NM`, or there are no kernels to check.

    Example:

    ```python
    pruned = prune(dense_model, granularity=NM(2, 4), copy=True)
    check_groups(pruned).holds  # True
    check_groups(strip_masks(pruned), NM(2, 4)).holds  # True
    ```
    """
    if granularity is not None and not isinstance(granularity, NM):
        raise ValueError(
            "`granularity` must be an `NM`, such as `NM(2, 4)`, or None for those of "
            f"the model's masks. Received: granularity={granularity!r}"
        )
    rows = [
        _row(kernel, granularity or kernel.mask.granularity)
        for kernel in prunable_kernels(model)
        if granularity is not None
        or (kernel.mask is not None and isinstance(kernel.mask.granularity, NM))
    ]
    if not rows:
        raise ValueError(
            f"Model '{model.name}' has no kernels to check. Give the `granularity` "
            "that they should have, unless their masks have it. "
            f"Received: granularity={granularity}"
        )
    return GroupCheck(model.name, tuple(rows))


def _row(kernel, granularity):
    return GroupRow(
        layer=kernel.label,
        layer_type=type(kernel.layer).__name__,
        shape=kernel.shape,
        granularity=granularity,
        groups=granularity.number_of_groups(kernel.shape, kernel.feature_axes),
        most_kept=granularity.most_kept(kernel.kept(), kernel.feature_axes),
    )
