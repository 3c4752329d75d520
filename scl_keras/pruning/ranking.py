"""Which connections are kept, by their scores."""

import math

import numpy as np

from scl_keras.pruning.quotas import quota_counts


def keep_best(scores, count, quotas=None, candidates=None):
    """Keeps the connections with the highest scores.

    Of equal scores the first ones are kept. What is kept for a smaller `count` is also
    kept for a larger one.

    Args:
        scores: List of arrays, one a kernel.
        count: Number of connections to keep in total.
        quotas: Object with `densities` that divides `count` among the kernels; by
            default all connections are ranked together.
        candidates: List of boolean arrays of what may be kept; by default everything.

    Returns:
        A list of boolean arrays, `count` of their entries true.

    Raises:
        ValueError: If a score is NaN, or the quotas can't be met.
    """
    flat = [np.ravel(values) for values in scores]
    if candidates is None:
        candidates = [np.ones(values.shape, bool) for values in scores]
    check_scores(flat)
    if quotas is None:
        allowed = np.concatenate([np.ravel(c) for c in candidates])
        kept = _largest(np.concatenate(flat), allowed, count)
        return unravel(kept, [values.shape for values in scores])
    shapes = [values.shape for values in scores]
    limits = [int(np.count_nonzero(c)) for c in candidates]
    counts = quota_counts(quotas, shapes, count, limits)
    return [
        _largest(np.ravel(v), np.ravel(c), n).reshape(v.shape)
        for v, c, n in zip(scores, candidates, counts, strict=True)
    ]


def check_scores(scores):
    """Refuses scores, a list of arrays, of which some are NaN."""
    if any(np.isnan(values).any() for values in scores):
        raise ValueError("Some scores of connections are NaN (not a number).")


def ranks(scores, rounds):
    """Scores that rank first by the round in which a connection was cut.

    Args:
        scores: List of arrays: each connection's score when it was cut, or at last.
        rounds: List of int arrays of the same shapes: the round in which it was cut.

    Returns:
        A list of int arrays: the higher, the later to cut.
    """
    keys = [np.concatenate([np.ravel(x) for x in xs]) for xs in (scores, rounds)]
    # Reversed, so that the first of equal ones is the last to go.
    order = np.lexsort([key[::-1] for key in keys])
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return unravel(rank[::-1], [values.shape for values in scores])


def unravel(flat, shapes):
    """Arrays of the given shapes from a flat one with the entries of all."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(flat, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _largest(values, allowed, count):
    """Marks the `count` largest among the allowed, of equal ones the first."""
    kept = np.zeros(values.shape, bool)
    positions = np.flatnonzero(allowed)
    if count == positions.size:
        kept[positions] = True
    elif count:
        values = values[positions]
        threshold = np.partition(values, -count)[-count]
        above = values > threshold
        ties = np.flatnonzero(values == threshold)
        kept[positions[above]] = True
        kept[positions[ties[: count - np.count_nonzero(above)]]] = True
    return kept
