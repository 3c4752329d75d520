import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scl_keras.pruning import Uniform
from scl_keras.pruning.ranking import falling_order, keep_best, ranks

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


@given(st.data())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_falling_order_is_that_of_a_stable_sort(dtype, data):
    few = st.sampled_from([0.0, 1e-40, 0.1, 0.5, 1.0, 3e38])
    values = np.array(data.draw(st.lists(few, min_size=1, max_size=20)), dtype)
    values = values.astype("float64")
    order = falling_order(values)
    assert order.tolist() == sorted(range(values.size), key=lambda i: (-values[i], i))


@pytest.mark.parametrize("kind", ["distinct", "few", "rising", "constant", "periodic"])
def test_the_nth_largest_of_many_is_that_of_a_sort(kind):
    rng, size = np.random.default_rng(0), 400_000
    values = {
        "distinct": rng.normal(size=size),
        "few": rng.integers(0, 5, size).astype(float),
        "rising": np.arange(size, dtype=float),
        "constant": np.ones(size),
        "periodic": np.tile(np.arange(6.0), size // 6 + 1)[:size],
    }[kind]
    falling = np.sort(values)[::-1]
    for n in (1, 2, 777, size // 3, size // 2, size - 1, size):
        (kept,) = keep_best([values], n)
        assert np.count_nonzero(kept) == n
        assert np.array_equal(np.sort(values[kept])[::-1], falling[:n])
