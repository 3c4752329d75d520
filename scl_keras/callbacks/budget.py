"""What a target counts: connections, or the multiply-accumulates behind them."""

import numpy as np

from scl_keras.masks.density import in_order, nearest
from scl_keras.training.prices import known_positions

_SAMPLE = 50_000


class Budget:
    """Learned masks and what is left of them, counted as a target counts.

    Args:
        masks: List of built `Mask`.
        of: One of `scl_keras.training.prices.COSTS`.
        density: Float in (0, 1], the share that may be kept.

    Raises:
        ValueError: If it leaves a mask less than its last switch, or if
            multiply-accumulates can't be counted.
    """

    def __init__(self, masks, of, density):
        self.masks = masks
        self.noun = {"connections": "connections", "flops": "multiply-accumulates"}[of]
        self._units = np.ones(len(masks), int)
        if of == "flops":
            variables = [mask.variable for mask in masks]
            self._units = np.array(known_positions(variables, "of='flops'"), int)
        units = self._units.tolist()
        both = list(zip(masks, units, strict=True))
        self.size = sum(mask.size * unit for mask, unit in both)
        self.target = round(density * self.size)
        largest = [int(np.max(mask.sizes)) * unit for mask, unit in both]
        self.largest = max(largest)
        holds = [mask.min_connections for mask in masks]
        floor = sum(held * last for held, last in zip(holds, largest, strict=True))
        if self.target < max(floor, 1):
            raise ValueError(
                f"A density of {density:.3g} leaves {self.target} of {self.size} "
                f"{self.noun}, less than one connection (or one block or channel, "
                f"together {floor}) for each of {len(masks)} masks. Ask for less "
                "sparsity."
            )

    def kept(self):
        """What is kept, an int."""
        counts = [int(mask.count()) for mask in self.masks]
        return sum(
            n * unit for n, unit in zip(counts, self._units.tolist(), strict=True)
        )

    def sizes(self):
        """What each entry of the mask variables switches, a flat array."""
        parts = [
            np.broadcast_to(mask.sizes * unit, mask.variable.shape).ravel()
            for mask, unit in zip(self.masks, self._units, strict=True)
        ]
        return np.concatenate(parts)

    def heights(self, prices):
        """How far each entry of the mask variables is above zero, in units of cost.

        Args:
            prices: How fast each mask falls, a list of floats or arrays. What is free
                is taken as if it weren't: it has to count somewhere.

        Returns:
            List of flat arrays, one a mask.
        """
        heights = []
        for mask, price in zip(self.masks, prices, strict=True):
            speed = np.where(np.equal(price, 0), 1, price).astype("float32")
            heights.append((mask.values() / speed).ravel())
        return heights

    def distance(self, heights, count):
        """How far all mask variables must fall for `count` to be kept."""
        heights = np.concatenate(heights)
        if self.largest > 1:
            stride = max(1, heights.size // _SAMPLE)
            heights, sizes = heights[::stride], self.sizes()[::stride]
            order, kept = in_order(heights, sizes)
            return float(heights[order[nearest(kept, count / stride) - 1]])
        above = heights[heights > 0]  # few, after a while, and mostly enough
        heights = above if above.size >= count else heights
        stride = max(1, heights.size // _SAMPLE)
        heights = heights[::stride]
        rank = min(max(round(count / stride), 1), heights.size)
        return float(np.partition(heights, -rank)[-rank])
