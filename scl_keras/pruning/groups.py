"""Which connections may be kept at all, where granularities limit them (see `NM`)."""

import numpy as np

from scl_keras.pruning.ranking import check_scores, keep_best, ranks


def admitted(mask, scores, candidates):
    """The candidates of a kernel that the granularity of its mask admits.

    Args:
        mask: Its `Mask`.
        scores: Array of its shape.
        candidates: Boolean array of what may be kept.

    Returns:
        A boolean array: of each group the candidates that score best, of equal ones the
        first.
    """
    if mask.capacity == mask.size:
        return candidates
    # Candidates rank first, and no two are equal.
    (order,) = ranks([scores], [candidates.astype(int)])
    found = mask.granularity.admitted(
        order.astype("float64"), mask.kernel_shape, mask.feature_axes
    )
    return candidates & found


def keep_most(scores, count, quotas, candidates):
    """Keeps the best connections, and first of all the best of their groups.

    So masks come to keep as many a group as is admitted, step by step: while more are
    kept, it is the others that go, the worst first.

    Args:
        scores: List of arrays, one a kernel.
        count: Number of connections to keep in total.
        quotas: As for `keep_best`.
        candidates: List of boolean arrays of what groups admit.

    Returns:
        A list of boolean arrays, `count` of their entries true.

    Raises:
        ValueError: As `keep_best`.
    """
    if count <= sum(int(np.count_nonzero(c)) for c in candidates):
        return keep_best(scores, count, quotas, candidates)
    check_scores(scores)
    order = ranks(scores, [c.astype(int) for c in candidates])
    return keep_best(order, count, quotas)
