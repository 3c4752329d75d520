"""Meeting a target exactly, in one stroke."""

import numpy as np

from scl_keras.masks.constraint import BARELY_KEPT
from scl_keras.masks.density import in_order, nearest

_NEAR = 1e-3


def close_the_gap(budget, heights, count):
    """Cuts or restores the connections nearest to zero until so many are kept.

    Args:
        budget: The `Budget`.
        heights: Its `heights(prices)`; they are changed.
        count: The number to be kept, in the budget's units.
    """
    highest = [height.max() for height in heights]
    for mask, height in zip(budget.masks, heights, strict=True):
        if mask.min_connections:  # every layer's strongest connection comes first
            height[np.argmax(height)] = np.inf
    ranked = np.concatenate(heights)
    order, sums = in_order(ranked, budget.sizes())
    target = budget.of_masks(count)
    number = max(nearest(sums, target), int(np.isposinf(ranked).sum()))
    kept = np.zeros(ranked.size, bool)
    kept[order[:number]] = True
    cutoff = ranked[kept].min()
    start = 0
    for mask, top in zip(budget.masks, highest, strict=True):
        s = mask.values()
        stop = start + s.size
        chosen = kept[start:stop].reshape(s.shape)
        moved = np.where(chosen, np.maximum(s, _NEAR), np.minimum(s, -_NEAR))
        if chosen.sum() == 1 and (top < cutoff or mask.is_down_to_last()):
            moved[chosen] = BARELY_KEPT
        mask.variable.assign(moved)
        start = stop
