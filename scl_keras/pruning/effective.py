"""How many connections to keep for a number of effective ones."""

import dataclasses
import functools

import numpy as np
from tqdm import tqdm

from scl_keras.pruning.ranking import keep_best


class DisconnectedError(ValueError):
    """Too little is left on a path from the inputs of a model to its outputs."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """What is effective when the best connections are kept.

    Attributes:
        number: How many of the best are kept.
        effective: List of boolean arrays: which of these are effective.
        usable: List of boolean arrays: all candidates that would be, if kept.
    """

    number: int
    effective: list
    usable: list

    @functools.cached_property
    def count(self):
        """Number of effective connections."""
        return total(self.effective)


def search_effective(network, ranking, count, verbose=0):
    """Finds masks with a given number of effective connections, and no dead ones.

    More connections can only add paths: the number of effective ones never falls with
    the number `n` of the best that are kept. Each `n` that is tried tells of all
    others. With fewer than `n` connections no others are effective than with `n`; with
    more, all those are that lead from what is reached at `n` to what is needed there.
    So the two sides of the search bound the number for every `n` between them, and
    where both bounds are `count`, the answer is known without a try.

    The number may pass `count` in a jump: one connection can bring others to life. Then
    the best connections between units already alive fill the gap from below. Each of
    them adds exactly one: all others that are kept are effective already.

    Where nothing is alive below the jump, the connection that made it is a bridge. It
    is kept, and the search goes on among the connections that rank above it.

    Args:
        network: A `PrunableNetwork`.
        ranking: A `Ranking` of its connections.
        count: Number of effective connections to keep.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        A list of masks whose connections are all effective: `count`, or the nearest
        number above that was found where paths are longer.

    Raises:
        DisconnectedError: If fewer connections than that are effective in the first
            place.
    """
    with tqdm(desc="search", disable=not verbose, leave=False) as bar:
        search = _Search(network, ranking, count, bar)
        low, high = search.begin()
        while high.count > count:
            low, high = search.narrow(low, high)
            if high.count == count:
                break
            filled = search.fill(low.effective)
            if filled is not None:
                return filled
            search.build_bridge(low, high)
            high = dataclasses.replace(high, number=low.number)
            low = search.probe(0)
            if low.count >= count:
                return low.effective
        return high.effective


class _Search:
    """A search for the least number of connections of which `count` are effective."""

    def __init__(self, network, ranking, count, bar):
        self._network, self._ranking = network, ranking
        self._count, self._bar = count, bar
        self._bridges = [np.zeros_like(c) for c in ranking.candidates]

    def probe(self, number):
        """A `Probe` of the best connections, `number` of them, and of all bridges."""
        self._bar.update()
        effective, usable = self._network.spread(self._kept(number))
        pairs = zip(usable, self._ranking.candidates, strict=True)
        return Probe(number, effective, [u & c for u, c in pairs])

    def begin(self):
        """A pair of probes, with too few and with enough.

        Where none of the best is dead, the first try is the answer, and both are it.
        """
        most = total(self._ranking.candidates)
        low = self.probe(min(self._count, most))
        if low.count == self._count:
            return low, low
        high = self.probe(self._number_for(low.usable) or most)
        if high.count < self._count:
            raise DisconnectedError(
                f"Only {high.count} connections of model '{self._network.model.name}' "
                f"lie on a path from its inputs to its outputs: {self._count} can't be "
                "kept. Ask for more sparsity."
            )
        return low, high

    def narrow(self, low, high):
        """Moves probes with too few and with enough together.

        By regula falsi within the bounds (the Illinois variant: a side that stays
        twice is taken to be nearer); each third try halves what is between them.

        Returns:
            A pair of probes, of neighbouring numbers if the second has too many.
        """
        missing, spare = self._count - low.count, high.count - self._count
        tries, before = 0, None
        while high.number - low.number > 1 and high.count > self._count:
            least = max(self._number_for(high.effective), low.number + 1)
            most = min(self._number_for(low.usable) or high.number, high.number)
            if most < high.number:
                pairs = zip(high.effective, self._kept(most), strict=True)
                bound = [effective & kept for effective, kept in pairs]
                if total(bound) == self._count:
                    return low, Probe(most, bound, high.usable)
            if tries == 0:
                number = least
            elif tries % 3:
                step = (high.number - low.number) * missing / (missing + spare)
                number = min(max(low.number + round(step), least), most)
            else:
                number = (least + most) // 2
            found = self.probe(min(number, high.number - 1))
            too_few = found.count < self._count
            weight = 0.5 if too_few == before else 1
            if too_few:
                low, missing, spare = found, self._count - found.count, spare * weight
            else:
                high, spare, missing = (
                    found,
                    found.count - self._count,
                    missing * weight,
                )
            tries, before = tries + 1, too_few
        return low, high

    def fill(self, masks):
        """Adds connections between living units until there are `count`, or None."""
        while (missing := self._count - total(masks)) > 0:
            _, usable = self._network.spread(masks)
            trios = zip(usable, self._ranking.candidates, masks, strict=True)
            usable = [u & candidate & ~mask for u, candidate, mask in trios]
            if not total(usable):
                return None
            some = min(missing, total(usable))
            added = keep_best(self._ranking.scores, some, None, usable)
            masks = [mask | new for mask, new in zip(masks, added, strict=True)]
        return masks

    def build_bridge(self, low, high):
        """Keeps from now on what the second probe keeps and the first one doesn't."""
        trios = zip(
            self._bridges, self._kept(high.number), self._kept(low.number), strict=True
        )
        self._bridges = [bridge | (new & ~old) for bridge, new, old in trios]

    def _kept(self, number):
        pairs = zip(self._ranking.keep(number), self._bridges, strict=True)
        return [kept | bridge for kept, bridge in pairs]

    def _number_for(self, wanted):
        """The least number to keep for `count` of the wanted and of bridges, or None.

        Bridges are kept in any case.
        """
        pairs = list(zip(wanted, self._bridges, strict=True))
        missing = self._count - total([w & bridge for w, bridge in pairs])
        if missing <= 0:
            return 0
        return self._ranking.number_for([w & ~bridge for w, bridge in pairs], missing)


def total(masks):
    """Number of connections in a list of masks."""
    return sum(int(np.count_nonzero(mask)) for mask in masks)
