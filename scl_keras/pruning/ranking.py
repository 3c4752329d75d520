"""Which connections are kept, by their scores."""

import functools
import math

import numpy as np

from scl_keras.pruning.quotas import quota_counts


class Ranking:
    """The order in which connections are kept, best first: see `keep_best`.

    Args:
        scores: List of arrays, one a kernel.
        candidates: List of boolean arrays of what may be kept.
    """

    def __init__(self, scores, candidates):
        self.scores, self.candidates = scores, candidates

    def keep(self, count):
        """The `count` best connections, a list of boolean arrays."""
        return keep_best(self.scores, count, None, self.candidates)

    def number_for(self, wanted, count):
        """The least number of connections to keep to have `count` of the wanted ones.

        Args:
            wanted: List of boolean arrays.
            count: Whole number from 1 on.

        Returns:
            A whole number, or None if fewer are wanted and may be kept.
        """
        scores, allowed, wanted = map(_joined, (self.scores, self.candidates, wanted))
        wanted = wanted & allowed
        if np.count_nonzero(wanted) < count:
            return None
        kept = np.flatnonzero(_largest(scores, wanted, count))
        threshold = scores[kept].min()
        last = kept[scores[kept] == threshold][-1]
        above = np.count_nonzero(allowed & (scores > threshold))
        ties = allowed[: last + 1] & (scores[: last + 1] == threshold)
        return above + np.count_nonzero(ties)


class QuotaRanking(Ranking):
    """A `Ranking` within each kernel, which keeps what `quotas` give it."""

    def __init__(self, scores, candidates, quotas):
        super().__init__(scores, candidates)
        self._quotas = quotas

    def keep(self, count):
        """As `Ranking.keep`."""
        counts = self._counts(count)
        return [r < n for r, n in zip(self._places, counts, strict=True)]

    def number_for(self, wanted, count):
        """As `Ranking.number_for`."""
        found = [np.sort(r[w]) for r, w in zip(self._places, wanted, strict=True)]
        found = [r[r < n] for r, n in zip(found, self._limits, strict=True)]

        def kept(number):
            pairs = zip(found, self._counts(number), strict=True)
            return sum(np.searchsorted(places, n) for places, n in pairs)

        low, high = 0, sum(self._limits)
        if kept(high) < count:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if kept(middle) < count else (low, middle)
        return high

    def _counts(self, count):
        shapes = [values.shape for values in self.scores]
        return quota_counts(self._quotas, shapes, count, self._limits)

    @functools.cached_property
    def _limits(self):
        return [int(np.count_nonzero(c)) for c in self.candidates]

    @functools.cached_property
    def _places(self):
        """Places from 0 on within each kernel, candidates first, the best first."""
        places = []
        for values, allowed in zip(self.scores, self.candidates, strict=True):
            check_scores([values])
            keys = -np.ravel(values), ~np.ravel(allowed)
            place = np.empty(values.size, np.int64)
            place[np.lexsort(keys)] = np.arange(values.size)
            places.append(place.reshape(values.shape))
        return places


def ranking(scores, candidates, quotas=None):
    """A `Ranking`, or a `QuotaRanking` where there are quotas."""
    if quotas is None:
        return Ranking(scores, candidates)
    return QuotaRanking(scores, candidates, quotas)


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
        kept = _largest(np.concatenate(flat), _joined(candidates), count)
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


def _joined(arrays):
    return np.concatenate([np.ravel(values) for values in arrays])


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
