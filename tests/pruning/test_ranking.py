import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scl_keras.pruning import Uniform
from scl_keras.pruning.ranking import keep_best, ranks

few_values = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(st.lists(few_values, min_size=1, max_size=3), st.data())
def test_keeps_the_largest_and_of_ties_the_first(values, data):
    scores = [np.array(v, float) for v in values]
    flat = np.concatenate(scores)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=flat.size)))[
        : flat.size
    ]
    candidates = np.split(allowed, np.cumsum([s.size for s in scores])[:-1])
    count = data.draw(st.integers(0, int(allowed.sum())))
    kept = np.concatenate(keep_best(scores, count, None, candidates))
    order = sorted(np.flatnonzero(allowed), key=lambda i: (-flat[i], i))
    assert np.flatnonzero(kept).tolist() == sorted(order[:count])


def test_quotas_rank_within_each_kernel():
    scores = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[90.0, 80.0]])]
    kept = keep_best(scores, 3, Uniform())
    assert kept[0].tolist() == [[False, False], [True, True]]
    assert kept[1].tolist() == [[True, False]]


def test_zero_scores_in_logarithms_can_be_kept():
    (kept,) = keep_best([np.array([-np.inf, 0.0, -np.inf])], 2)
    assert kept.tolist() == [True, True, False]


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        keep_best([np.array([1.0, np.nan])], 1)


@given(st.data())
def test_ranks_go_by_round_then_by_score_then_by_place(data):
    size = data.draw(st.integers(1, 12))
    draw = st.lists(st.integers(0, 3), min_size=size, max_size=size)
    scores, rounds = (np.array(data.draw(draw)) for _ in range(2))
    (rank,) = ranks([scores], [rounds])
    expected = sorted(range(size), key=lambda i: (rounds[i], scores[i], -i))
    assert np.argsort(rank).tolist() == expected
