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
        check_scores(scores)
        self.scores, self.candidates = scores, candidates

    @functools.cached_property
    def _all(self):
        return _joined(self.scores), _joined(self.candidates)

    def keep(self, count):
        """The `count` best connections, a list of boolean arrays."""
        kept = _largest(*self._all, count)
        return unravel(kept, [values.shape for values in self.scores])

    def number_for(self, wanted, count):
        """The least number of connections to keep to have `count` of the wanted ones.

        Args:
            wanted: List of boolean arrays.
            count: Whole number from 1 on.

        Returns:
            A whole number, or None if fewer are wanted and may be kept.
        """
        scores, allowed = self._all
        wanted = _joined(wanted) & allowed
        if np.count_nonzero(wanted) < count:
            return None
        chosen = scores if wanted.all() else scores[wanted]
        threshold = _nth_largest(chosen, count)
        # Of those that score the same, the wanted one that makes the number full.
        ties = np.flatnonzero(wanted & (scores == threshold))
        last = ties[count - np.count_nonzero(chosen > threshold) - 1]
        above = np.count_nonzero(allowed & (scores > threshold))
        before = allowed[: last + 1] & (scores[: last + 1] == threshold)
        return above + np.count_nonzero(before)


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
    if candidates is None:
        candidates = [np.ones(values.shape, bool) for values in scores]
    if quotas is None:
        return Ranking(scores, candidates).keep(count)
    check_scores(scores)
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


def falling_order(values):
    """Indices of non-negative values, the largest first, and of equal ones the first.

    Args:
        values: Array of rank 1.
    """
    single = values.astype("float32")
    if values.size >= 2**32 or not np.array_equal(single, values):
        return np.argsort(-values, kind="stable")
    # Non-negative floats are ordered as their bits are. Of whole numbers that hold both
    # value and place, a plain sort takes a third of what a stable argsort does.
    keys = (~single.view(np.uint32)).astype(np.uint64) << 32
    keys |= np.arange(values.size, dtype=np.uint64)
    keys.sort()
    return (keys & 0xFFFFFFFF).astype(np.intp)


def unravel(flat, shapes):
    """Arrays of the given shapes from a flat one with the entries of all."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(flat, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _joined(arrays):
    return np.concatenate([np.ravel(values) for values in arrays])


def _largest(values, allowed, count):
    """Marks the `count` largest among the allowed, of equal ones the first."""
    if not count:
        return np.zeros(values.shape, bool)
    if count == np.count_nonzero(allowed):
        return allowed.copy()
    threshold = _nth_largest(values if allowed.all() else values[allowed], count)
    kept = allowed & (values > threshold)
    ties = np.flatnonzero(allowed & (values == threshold))
    kept[ties[: count - np.count_nonzero(kept)]] = True
    return kept


def _nth_largest(values, n):
    """The `n`-th largest of some values, from 1 on.

    Of many values, a sample shows between which two to look for it: a partition of all
    takes several times as long as two comparisons.
    """
    step = values.size // _SAMPLE
    if step > 1:
        sample = np.sort(values[::step])
        place = sample.size - round(n / step)
        low, high = np.clip([place - _MARGIN, place + _MARGIN], 0, sample.size - 1)
        low, high = sample[low], sample[high]
        above = np.count_nonzero(values > high)
        between = values[(values >= low) & (values <= high)]
        if above < n <= above + between.size:
            values, n = between, n - above
    return np.partition(values, -n)[-n]


_SAMPLE = 2**16
# Five standard deviations of the place of the median of a random sample.
_MARGIN = 5 * round(_SAMPLE**0.5 / 2)
