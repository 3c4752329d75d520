"""How many connections a file of so many bytes, or of such a speed, may have."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from scl_keras.callbacks.budget import Budget
from scl_keras.callbacks.closing import close_the_gap
from scl_keras.targets.limits import Limit

if TYPE_CHECKING:
    from scl_keras.export.samples import Samples

_ALLOWED = 0.95  # of the limit: a file of 95 kB and more is one of "at most 100 kB"
_AIM = 0.98
_ROUGH = 4 / 3
_MOST_TRIALS, _QUICK = 16, 3
# Of the count's logarithm by the cost's, to go beyond a trial: noise makes others.
_SLOPES = 0.3, 3.0

Heights = Callable[[], Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class FileBudget:
    """What a file may cost, and what it costs with so many connections.

    Attributes:
        budget: The `Budget` of the model's masks.
        measure: Function without arguments to what the file of the model costs as the
            masks are now: a number that grows with the number of connections.
        limit: The most that it may cost.
    """

    budget: Budget
    measure: Callable[[], float]
    limit: float

    @classmethod
    def of(
        cls,
        model: keras.Model,
        budget: Budget,
        limit: Limit,
        dtype: str,
        samples: Samples | None,
    ) -> FileBudget:
        """That of the file that `export_tflite` would write.

        Args:
            model: The model with the masks.
            budget: Its `Budget`.
            limit: What the file may cost.
            dtype: As for `export_tflite`.
            samples: As for `export_tflite`, needed for a model with open sizes.

        Raises:
            ValueError: If sizes are open and there are no samples.
        """
        from scl_keras.export.meter import FileMeter  # it imports TensorFlow

        meter = FileMeter(model, dtype, samples)
        return cls(budget, lambda: limit.measure(meter), limit.cost)

    def is_met(self) -> bool:
        """Whether the masks as they are now use what there is, within 5 %."""
        return _ALLOWED * self.limit <= self.measure() <= self.limit

    def cost(self, count: int, heights: Heights) -> float:
        """What the file would cost with so many connections, the highest ones.

        Args:
            count: Their number, in the budget's units.
            heights: Function to how high each is, as of `Budget.heights`.
        """
        with self._masks_left_alone():
            close_the_gap(self.budget, heights(), count)
            return self.measure()

    def least(self) -> float:
        """What it costs with one connection (or block, or channel) a mask.

        These are the first ones of all kernels, so that each reads the one before it.
        """
        with self._masks_left_alone():
            for mask in self.budget.masks:
                only = np.full(mask.variable.shape, -1.0)
                if mask.min_connections:
                    only.flat[0] = 1.0
                mask.variable.assign(only)
            return self.measure()

    def most(self) -> float:
        """What it costs with all connections that can be kept."""
        return self.cost(self.budget.most, self.alike)

    def count(self, guess: int, heights: Heights, roughly: bool = False) -> int:
        """How many connections use what there is, to within 5 %, in a few trials.

        Args:
            guess: A number to begin with.
            heights: See `cost`.
            roughly: Whether it is enough to be near: what a trial that cost up to a
                third more or less leads to isn't tried.
        """
        low, high = self.budget.least, self.budget.most
        known: dict[int, float] = {}
        count = min(max(guess, low), high)
        for _ in range(_MOST_TRIALS):
            known[count] = cost = self.cost(count, heights)
            if _ALLOWED * self.limit <= cost <= self.limit:
                return count
            if roughly and 1 / _ROUGH <= cost / self.limit <= _ROUGH:
                return min(max(self._next(known, low, high), low), high)
            low, high = (low, count) if cost > self.limit else (count, high)
            if high - low <= 1:
                break
            count = min(max(self._next(known, low, high), low + 1), high - 1)
        within = [count for count, cost in known.items() if cost <= self.limit]
        return max(within, default=low)

    def _next(self, known, low, high):
        """The count that should cost what is allowed.

        Logarithms of count and cost are taken for linear, between trials on both sides
        or beyond the last one. Every other time it is the middle, in case they aren't.
        """
        goal = math.log(_AIM * self.limit)
        if len(known) >= _QUICK and len(known) % 2:
            return round(math.sqrt(low * high))
        if low in known and high in known:
            x, y = np.log([low, high]), np.log([known[low], known[high]])
            return round(math.exp(np.interp(goal, y, x)))
        (count, cost), *others = list(known.items())[::-1]
        slope = 1.0
        if others and others[0][1] != cost:
            way = math.log(others[0][0] / count)
            slope = np.clip(way / math.log(others[0][1] / cost), *_SLOPES)
        return round(count * math.exp(slope * (goal - math.log(cost))))

    def alike(self) -> list[np.ndarray]:
        """Heights by which all kernels keep the same share, chosen at random.

        How a training will share connections among layers isn't known when it begins.
        """
        rng = np.random.default_rng(0)
        heights = []
        for mask in self.budget.masks:
            chosen = rng.random(mask.variable.shape)
            chosen = np.where(mask.admitted(chosen), chosen, -np.inf)
            heights.append(chosen.ravel())
        return heights

    @contextlib.contextmanager
    def _masks_left_alone(self) -> Iterator[None]:
        values = [mask.values() for mask in self.budget.masks]
        try:
            yield
        finally:
            for mask, value in zip(self.budget.masks, values, strict=True):
                mask.variable.assign(value)
