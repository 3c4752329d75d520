"""How many connections to keep, as users say it: by sparsity or by compression."""

import math


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
