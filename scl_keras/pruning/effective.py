"""How many connections to keep for a number of effective ones."""

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
    kept are effective already.

    Where nothing is alive below the jump, the connection that made it is a bridge. It
    is kept, and the search goes on among the connections that rank above it.

    Args:
        network: A `PrunableNetwork`.
        scores: Scores of its connections, a list of arrays.
        count: Number of effective connections to keep.
        keep: Function from a number of connections to a list of masks.
        candidates: List of boolean arrays of what may be kept.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        A list of masks whose connections are all effective: `count`, or the nearest
        number above that was found where paths are longer.

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
    high = total(candidates)
    bridges = [np.zeros_like(c) for c in candidates]

    def attempt(number):
        masks = [m | b for m, b in zip(keep(number), bridges, strict=True)]
        return network.effective(masks)

    with tqdm(desc="search", disable=not verbose, leave=False) as bar:
        while total(above) > count and high > 0:
            # No more can be effective than there are.
            low = max(count - total(bridges) - 1, 0)
            below = attempt(low)
            if total(below) >= count:
                return below
            while high - low > 1 and total(above) > count:
                middle = (low + high) // 2
                found = attempt(middle)
                if total(found) < count:
                    low, below = middle, found
                else:
                    high, above = middle, found
                bar.update()
            if total(above) == count:
                break
            filled = _fill(network, scores, count, below, candidates)
            if filled is not None:
                return filled
            pairs = zip(bridges, keep(high), keep(low), strict=True)
            bridges = [b | (new & ~old) for b, new, old in pairs]
            high = low
    return above


def total(masks):
    """Number of connections in a list of masks."""
    return sum(int(np.count_nonzero(mask)) for mask in masks)


def _fill(network, scores, count, masks, candidates):
    """Adds connections between living units until there are `count`, or None."""
    while (missing := count - total(masks)) > 0:
        usable = [
            use & allowed & ~mask
            for use, allowed, mask in zip(
                network.usable(masks), candidates, masks, strict=True
            )
        ]
        if not total(usable):
            return None
        added = keep_best(scores, min(missing, total(usable)), None, usable)
        masks = [mask | new for mask, new in zip(masks, added, strict=True)]
    return masks
