"""How many connections to keep, as users say it: by sparsity or by compression."""

import math

import numpy as np


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
            f"sparsity={sparsity}, compression={compression}"
        )
    if sparsity is not None and not 0 <= sparsity < 1:
        raise ValueError(
            "`sparsity` must be in [0, 1): 0.98 cuts 98 % of the connections. "
            f"Received: sparsity={sparsity}"
        )
    if compression is not None and not (
        compression >= 1 and math.isfinite(compression)
    ):
        raise ValueError(
            "`compression` must be at least 1: 50 keeps one connection in 50. "
            f"Received: compression={compression}"
        )
    return 1 - sparsity if compression is None else 1 / compression


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
