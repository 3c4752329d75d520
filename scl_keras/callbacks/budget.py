"""What a target counts: connections, multiply-accumulates, or weights of the model."""

import numpy as np

from scl_keras.masks.density import in_order, nearest
from scl_keras.masks.mask import find_masks, split_masks
from scl_keras.training.prices import known_positions

_SAMPLE = 50_000
OVER = ("masks", "model")
_NOUNS = {"connections": "connections", "macs": "multiply-accumulates"}


class Budget:
    """The masks of a model and what is left of them, counted as a target counts.

    Masks of frozen layers, fixed ones, and those that no loss depends on count, and
    don't move. `over="model"` counts all weights of the model, also those that no mask
    can cut.

    Args:
        model: A built model.
        of: One of `scl_keras.training.prices.COSTS`.
        over: One of `OVER`.

    Attributes:
        learned: List of the masks that training may move.
        masks: List of those that it moves, see `leave_out`.
        size: Number of all that counts.
        target: Number that may be kept, at first all.

    Raises:
        ValueError: If no mask moves, or if multiply-accumulates can't be counted.
    """

    def __init__(self, model, of, over):
        self.noun = "weights" if over == "model" else _NOUNS[of]
        self._of = of
        trained = {id(v) for v in model.trainable_variables}
        masks = find_masks(model)
        moving = [m for m in masks if m.is_learned and id(m.variable) in trained]
        if not masks:
            raise ValueError(
                f"Model '{model.name}' has no masks: call `sparsify(model)`, which "
                "puts them in, before it is compiled and trained. Received: 0 masks"
            )
        if not moving:
            raise ValueError(
                f"Model '{model.name}' has no mask that training moves. Those made "
                "with `ste=None`, as `prune` does, are fixed (`GradualPruning` changes "
                "such masks), and those of layers with `trainable=False` are frozen. "
                f"Received: {len(masks)} masks"
            )
        still = [mask for mask in masks if all(mask is not other for other in moving)]
        self.learned = moving
        self._fixed = self._kept(still, self._units_of(still))
        self.size = sum(self._sizes_of(moving)) + sum(self._sizes_of(still))
        if over == "model":
            weights, _ = split_masks(model.weights)
            unmasked = sum(int(np.prod(w.shape)) for w in weights) - self.size
            self._fixed, self.size = self._fixed + unmasked, self.size + unmasked
        self.target = self.size
        self._move(moving, unused=[])

    def _move(self, moving, unused):
        self.masks, self._units = moving, self._units_of(moving)
        self._rest = self._fixed + self._kept(unused, self._units_of(unused))
        largest = [
            int(np.max(mask.sizes)) * unit
            for mask, unit in zip(moving, self._units.tolist(), strict=True)
        ]
        self.largest = max(largest)
        holds = [mask.min_connections for mask in moving]
        self.floor = sum(held * last for held, last in zip(holds, largest, strict=True))

    def leave_out(self, unused, names):
        """Takes masks for ones that don't move.

        Args:
            unused: List of masks that no loss depends on.
            names: What they are called, for errors.

        Raises:
            ValueError: If the others can't meet the target then.
        """
        ids = {id(mask) for mask in unused}
        self._move([mask for mask in self.learned if id(mask) not in ids], unused)
        if unused and self.target < self.least:
            raise ValueError(
                f"{self.target:,} of {self.size:,} {self.noun} can't be reached: no "
                f"loss depends on {', '.join(names)}, which stay as they are, and "
                f"{self.least:,} are the least with one connection (or one block or "
                "channel) for each of the others. Compile the model with a loss for "
                "each output, take the unused layers out of it, or ask for a sparsity "
                f"of {1 - self.least / self.size:.4g} or less."
            )

    @property
    def most(self):
        """The largest number that can be kept."""
        pairs = zip(self.masks, self._units.tolist(), strict=True)
        return self._rest + sum(mask.capacity * unit for mask, unit in pairs)

    @property
    def least(self):
        """The smallest number that can be kept: one connection a mask."""
        return self._rest + max(self.floor, 1)

    def aim(self, density):
        """Sets the target.

        Args:
            density: Float in (0, 1], the share that may be kept.

        Raises:
            ValueError: If it is less than what can't be cut, or more than can be kept.
        """
        self.target, most = round(density * self.size), self.most
        if self.target > most:
            kinds = {m.granularity for m in self.masks if m.capacity < m.size}
            raise ValueError(
                f"A density of {density:.3g} keeps {self.target:,} of {self.size:,} "
                f"{self.noun}, but no more than {most:,} can be kept with masks of the "
                f"granularity {', '.join(map(repr, map(str, kinds)))}. Ask for a "
                f"sparsity of {1 - most / self.size:.4g} or more."
            )
        if self.target >= self.least:
            return
        still = (
            f" {self._rest:,} can't be cut: they have no masks, or masks that are "
            "fixed or frozen."
            if self._rest
            else ""
        )
        raise ValueError(
            f"A density of {density:.3g} leaves {self.target:,} of {self.size:,} "
            f"{self.noun}, less than one connection (or one block or channel, together "
            f"{self.floor:,}) for each of {len(self.masks)} masks.{still} Ask for less "
            "sparsity."
        )

    def _units_of(self, masks):
        if self._of != "macs":
            return np.ones(len(masks), int)
        variables = [mask.variable for mask in masks]
        return np.array(known_positions(variables, "of='macs'"), int)

    def _sizes_of(self, masks):
        units = self._units_of(masks).tolist()
        return [mask.size * unit for mask, unit in zip(masks, units, strict=True)]

    @staticmethod
    def _kept(masks, units):
        pairs = zip(masks, units.tolist(), strict=True)
        return sum(int(mask.count()) * unit for mask, unit in pairs)

    def kept(self):
        """What is kept, an int."""
        return self._rest + self._kept(self.masks, self._units)

    def is_met(self):
        """Whether the target is kept, up to one switch."""
        return abs(self.kept() - self.target) < self.largest

    def of_masks(self, count):
        """What the masks that move may keep if `count` is kept in all, an int."""
        return max(int(count) - self._rest, self.floor, 1)

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
            List of flat arrays, one a mask; minus infinity for those that can't be kept
            since others of their group rank above them, wherever all move together.
        """
        heights = []
        for mask, price in zip(self.masks, prices, strict=True):
            speed = np.where(np.equal(price, 0), 1, price).astype("float32")
            s = mask.values()
            heights.append(np.where(mask.admitted(s), s / speed, -np.inf).ravel())
        return heights

    def distance(self, heights, count):
        """How far all mask variables must fall for `count` to be kept in all."""
        count = self.of_masks(count)
        heights = np.concatenate(heights)
        possible = np.isfinite(heights)
        if self.largest > 1:
            heights, sizes = heights[possible], self.sizes()[possible]
            stride = max(1, heights.size // _SAMPLE)
            heights, sizes = heights[::stride], sizes[::stride]
            order, kept = in_order(heights, sizes)
            return float(heights[order[nearest(kept, count / stride) - 1]])
        above = heights[heights > 0]  # few, after a while, and mostly enough
        heights = above if above.size >= count else heights[possible]
        stride = max(1, heights.size // _SAMPLE)
        heights = heights[::stride]
        rank = min(max(round(count / stride), 1), heights.size)
        return float(np.partition(heights, -rank)[-rank])
