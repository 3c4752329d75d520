"""How long functions take beside each other, on a machine that does other things, too.

Functions take turns, round by round, and every other round in the opposite order. What
the machine does meanwhile meets all of them alike, and so does what slowly changes. Two
of them are compared within each round; the median over the rounds leaves out what hits
one. It comes with an interval from the order of the rounds alone: whatever the times'
distribution, the median of n ratios lies between the k-th smallest and the k-th largest
but for a chance that the binomial distribution tells.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# A turn lasts long enough that reading the clock does not count, and is short enough
# that most turns are not interrupted.
_TURN_SECONDS = 0.001

# An interval misses the median this seldom: an export compares some ten files, and none
# of them should be called faster by chance.
_CHANCE = 0.001
_MIN_ROUNDS = 11  # that many are needed for an interval: 2 * 0.5**11 < _CHANCE

# The same function twice, each with memory of its own, differs by about this much for
# as long as both live. No number of rounds shows that, so intervals are wider by it.
_ALIKE = 1.03

_CLOSE = 1.1  # a ratio that nobody would call a difference


@dataclasses.dataclass(frozen=True)
class Speed:
    """How many times as fast one function is as another.

    Attributes:
        ratio: Median over the rounds of the other's time over its own: above 1 it is
            faster.
        low: Where the interval of the ratio starts (99.9 %).
        high: Where it ends.
    """

    ratio: float
    low: float
    high: float

    @property
    def is_faster(self) -> bool:
        """Whether it was shown to be faster: the interval is above 1."""
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        """Whether it was shown to be slower: the interval is below 1."""
        return self.high < 1

    @property
    def is_decided(self) -> bool:
        """Whether the interval excludes 1."""
        return self.is_faster or self.is_slower

    @property
    def is_close(self) -> bool:
        """Whether it was shown that a tenth is the most there can be between them."""
        return self.low > 1 / _CLOSE and self.high < _CLOSE

    def __str__(self) -> str:
        interval = f"{self.low:.2f} to {self.high:.2f}"
        if not self.is_decided:
            return f"no difference shown ({interval})"
        return f"{self.ratio:.2f}x as fast ({interval})"


SAME = Speed(1.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Timings:
    """What functions took that were timed together.

    Attributes:
        rounds: Seconds of one call in each round, by name; as many for each name.
    """

    rounds: Mapping[str, Sequence[float]]

    def ms(self, name: str) -> float:
        """Returns the median milliseconds of a call."""
        return 1000 * float(np.median(self.rounds[name]))

    def and_then(self, later: Timings) -> Timings:
        """Returns these rounds and later ones of the same functions."""
        return Timings({n: [*own, *later.rounds[n]] for n, own in self.rounds.items()})

    def speed(self, name: str, other: str) -> Speed:
        """Returns how many times as fast `name` is as `other`."""
        if name == other:
            return SAME
        own, others = (np.asarray(self.rounds[n], float) for n in (name, other))
        ratios = np.sort(others / np.maximum(own, 1e-12))
        rank = _rank(len(ratios))
        if rank is None:
            return Speed(float(np.median(ratios)), 0.0, math.inf)
        low, high = ratios[rank] / _ALIKE, ratios[-1 - rank] * _ALIKE
        return Speed(float(np.median(ratios)), float(low), float(high))


def take_turns(
    functions: Mapping[str, Callable[[], Any]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    min_rounds: int = _MIN_ROUNDS,
) -> Timings:
    """Times functions against each other.

    Args:
        functions: What to call, by name. They should be warm.
        seconds: How long to measure, all together.
        clock: What tells the seconds. `time.perf_counter` counts all that passes.
            `time.thread_time` counts only what this thread computes, not what others do
            meanwhile: it is right for functions without threads of their own.
        min_rounds: How many rounds to make even if they take longer.

    Returns:
        The times of all rounds.

    Example:

    ```python
    timings = take_turns({"sorted": lambda: sorted(x), "list": lambda: list(x)}, 0.1)
    print(timings.speed("list", "sorted"))
    ```
    """
    stop = time.perf_counter() + seconds
    rounds = {name: [_seconds(f, 1, clock)] for name, f in functions.items()}
    calls = {
        name: max(1, int(_TURN_SECONDS / max(first, 1e-9)))
        for name, (first,) in rounds.items()
    }
    order, done = list(functions), 1
    if max(calls.values()) > 1:  # those were shorter than turns
        rounds, done = {name: [] for name in functions}, 0
    else:
        order.reverse()
    while done < min_rounds or time.perf_counter() < stop:
        for name in order:
            rounds[name].append(_seconds(functions[name], calls[name], clock))
        order.reverse()
        done += 1
    return Timings(rounds)


def _seconds(
    function: Callable[[], Any], calls: int, clock: Callable[[], float]
) -> float:
    start = clock()
    for _ in range(calls):
        function()
    return (clock() - start) / calls


@functools.cache
def _rank(count: int) -> int | None:
    """How many of the smallest and of the largest ratios are out of the interval.

    None if not even all of them make one.
    """
    below, rank = 0.0, -1
    while rank < count:
        # The chance that at most `rank` + 1 of them are below the median.
        below += math.exp(_log_chance(count, rank + 1))
        if 2 * below > _CHANCE:
            break
        rank += 1
    return None if rank < 0 else rank


def _log_chance(count: int, heads: int) -> float:
    """Logarithm of the chance of so many heads in `count` throws of a coin."""
    ways = math.lgamma(count + 1) - math.lgamma(heads + 1)
    return ways - math.lgamma(count - heads + 1) - count * math.log(2)
