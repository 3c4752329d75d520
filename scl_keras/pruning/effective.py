"""How many connections to keep for a number of effective ones."""

import math

import numpy as np
from tqdm import tqdm

from scl_keras.pruning.ranking import keep_best


class DisconnectedError(ValueError):
    """Too little is left on a path from the inputs of a model to its outputs."""


def search_effective(network, scores, count, keep, candidates, verbose=0):
    """Finds masks with a given number of effective connections, and no dead ones.

    `keep(n)` is nested: what it keeps for a smaller `n` is kept for a larger one. More
    connections can only add paths, so that the number of effective ones never falls
    with `n`, and halving finds where it passes `count`. It may pass it in a jump: one
    connection can bring others to life. Then the best connections between units already
    alive fill the gap from below. Each of them adds exactly one: all others that are
    kept are effective already. Where nothing is alive below the jump, the connections
    that score worst are taken away from above.

    Args:
        network: A `PrunableNetwork`.
        scores: Scores of its connections, a list of arrays.
        count: Number of effective connections to keep.
        keep: Function from a number of connections to a list of masks.
        candidates: List of boolean arrays of what may be kept.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        A list of masks whose connections are all effective: `count`, or the nearest
        number above that was found where every path is longer.

    Raises:
        DisconnectedError: If fewer connections than that are effective in the first
            place.
    """
    above = network.effective(candidates)
    if total(above) < count:
        raise DisconnectedError(
            f"Only {total(above)} connections of model '{network.model.name}' lie on a "
            f"path from its inputs to its outputs: {count} can't be kept. Ask for more "
            "sparsity."
        )
    low, high = count - 1, total(candidates)  # of `low` no more can be effective
    below = None
    steps = math.ceil(math.log2(max(high - low, 1)))
    with tqdm(total=steps, desc="search", disable=not verbose, leave=False) as bar:
        while high - low > 1 and total(above) != count:
            middle = (low + high) // 2
            found = network.effective(keep(middle))
            if total(found) < count:
                low, below = middle, found
            else:
                high, above = middle, found
            bar.update()
    if total(above) == count:
        return above
    below = network.effective(keep(low)) if below is None else below
    filled = _fill(network, scores, count, below, candidates)
    return _trim(network, scores, count, above) if filled is None else filled


def total(masks):
    """Number of connections in a list of masks."""
    return sum(int(np.count_nonzero(mask)) for mask in masks)


def _fill(network, scores, count, masks, candidates):
    """Adds connections between living units until there are `count`, or None."""
    while (missing := count - total(masks)) > 0:
        joining = [
            use & allowed & ~mask
            for use, allowed, mask in zip(
                network.joining(masks), candidates, masks, strict=True
            )
        ]
        if not total(joining):
            return None
        added = keep_best(scores, min(missing, total(joining)), None, joining)
        masks = [mask | new for mask, new in zip(masks, added, strict=True)]
    return masks


def _trim(network, scores, count, masks):
    """Takes connections away, the worst first, as long as `count` are effective."""
    positions = [np.argwhere(mask) for mask in masks]
    worst_first = sorted(
        (score, i, tuple(position))
        for i, (array, found) in enumerate(zip(scores, positions, strict=True))
        for score, position in zip(array[tuple(found.T)], found, strict=True)
    )
    for _, i, position in worst_first:
        if total(masks) == count:
            break
        if masks[i][position]:
            tried = [mask.copy() for mask in masks]
            tried[i][position] = False
            tried = network.effective(tried)
            masks = tried if total(tried) >= count else masks
    return masks
