"""How many connections to keep, as users say it: by sparsity or by compression."""

import numpy as np

from scl_keras import checks


def target_density(caller, sparsity, compression):
    """The share of connections to keep.

    Args:
        caller: Name of the function that was given the arguments.
        sparsity: Float in [0, 1), the share of connections to cut, or None.
        compression: Number of connections over number kept, at least 1, or None.

    Returns:
        A float in (0, 1].

    Raises:
        ValueError: If not exactly one is given, or it is out of its range.
    """
    if (sparsity is None) == (compression is None):
        raise ValueError(
            f"`{caller}` takes either `sparsity` or `compression`. Received: "
            f"sparsity={sparsity!r}, compression={compression!r}"
        )
    if compression is None:
        return 1 - checks.number(
            *("sparsity", sparsity),
            "a number in [0, 1): 0.98 cuts 98 % of the connections",
            lambda x: 0 <= x < 1,
        )
    return 1 / checks.number(
        *("compression", compression),
        "a number of at least 1: 50 keeps one connection in 50",
        lambda x: x >= 1,
    )


def in_order(values, sizes):
    """Switches from the largest mask variable to the smallest.

    Args:
        values: Array of mask variables.
        sizes: Array of as many ints, the number of connections that each switches.

    Returns:
        Their indices in that order, and the number of connections kept by the first,
        the first two, and so on: two arrays.
    """
    order = np.argsort(values)[::-1]
    return order, np.cumsum(sizes[order])


def nearest(kept, count):
    """How many switches keep the number of connections nearest to a count.

    Args:
        kept: The second array of `in_order`.
        count: Number of connections.

    Returns:
        An int from 1.
    """
    after = min(int(np.searchsorted(kept, count)), len(kept) - 1)
    before = max(after - 1, 0)
    is_nearer = abs(kept[before] - count) <= abs(kept[after] - count)
    return (before if is_nearer else after) + 1
