import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scl_keras.pruning import (
    ERK,
    IGQ,
    Uniform,
    UniformPlus,
    get_quotas,
    quota_counts,
)

QUOTAS = [Uniform(), ERK(), IGQ()]
LENET = [(784, 300), (300, 100), (100, 10)]
shapes = st.lists(
    st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple),
    min_size=1,
    max_size=6,
)


def sizes_of(shapes):
    return np.array([math.prod(shape) for shape in shapes])


@pytest.mark.parametrize("quotas", QUOTAS, ids=str)
@given(shapes=shapes, density=st.floats(1e-9, 1))
def test_densities_are_shares_of_the_total_asked_for(quotas, shapes, density):
    shares = quotas.densities(shapes, density)
    sizes = sizes_of(shapes)
    assert np.all((shares >= 0) & (shares <= 1))
    np.testing.assert_allclose((shares * sizes).sum(), density * sizes.sum(), rtol=1e-9)


@given(shapes=shapes, density=st.floats(1e-6, 1))
def test_erk_is_proportional_below_one_and_ideal_gas_has_one_force(shapes, density):
    sizes = sizes_of(shapes)
    raw = np.array([sum(shape) for shape in shapes]) / sizes
    shares = ERK().densities(shapes, density)
    free = shares < 1
    if free.any():
        ratio = (shares / raw)[free]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
        # What is full would get as much or more.
        assert np.all(ratio[0] * raw[~free] >= 1 - 1e-6)
    compression = 1 / IGQ().densities(shapes, density)
    force = (compression - 1) / sizes
    np.testing.assert_allclose(force, force[0], rtol=1e-4, atol=1e-9)


def test_erk_redistributes_in_several_waves():
    # By hand: 0.5 of 1,120; (10,) first, whose excess fills (2, 5) and leaves 540.
    shares = ERK().densities([(10, 1), (2, 5), (100, 11)], 0.5)
    np.testing.assert_allclose(shares, [1, 1, 540 / 1100])


def test_uniform_plus_as_in_gale_et_al():
    shapes = [(3, 3, 3, 16), (3, 3, 16, 32), (32, 10)]
    total = sum(map(math.prod, shapes))
    shares = UniformPlus().densities(shapes, 0.15)
    assert shares[0] == 1 and shares[2] == 0.2
    inner = (0.15 * total - math.prod(shapes[0]) - 64) / math.prod(shapes[1])
    assert shares[1] == pytest.approx(inner) and inner < 0.2
    # Above 20 % the last kernel is like the others.
    dense = UniformPlus().densities(shapes, 0.5)
    assert dense[1] == pytest.approx(dense[2]) and dense[2] > 0.2
    # Without a convolution the first kernel is like the others.
    assert UniformPlus().densities(LENET, 0.5)[0] < 1
    with pytest.raises(ValueError, match="keeps the first convolution dense.*Received"):
        UniformPlus().densities(shapes, 0.05)


@pytest.mark.parametrize("quotas", QUOTAS, ids=str)
@given(shapes=shapes, data=st.data())
def test_counts_are_exact_bounded_and_nested(quotas, shapes, data):
    sizes = sizes_of(shapes)
    count = data.draw(st.integers(0, int(sizes.sum())))
    counts = np.array(quota_counts(quotas, shapes, count))
    assert counts.sum() == count
    assert np.all((counts >= 0) & (counts <= sizes))
    if count >= len(shapes):
        assert counts.min() >= 1
    if 0 < count < sizes.sum():
        assert np.all(np.array(quota_counts(quotas, shapes, count + 1)) >= counts)
    # Near to the shares: whole numbers, and at least one a kernel.
    if count:
        ideal = quotas.densities(shapes, count / sizes.sum()) * sizes
        assert np.all(np.abs(counts - ideal) < len(shapes) + 1)


@given(shapes=shapes, data=st.data())
def test_counts_stay_within_what_is_left(shapes, data):
    limits = [data.draw(st.integers(0, math.prod(shape))) for shape in shapes]
    count = data.draw(st.integers(0, sum(limits)))
    counts = quota_counts(Uniform(), shapes, count, limits)
    assert sum(counts) == count
    assert all(n <= limit for n, limit in zip(counts, limits, strict=True))


def test_counts_of_a_real_network():
    assert quota_counts(Uniform(), LENET, 26620) == [23520, 3000, 100]
    assert quota_counts(ERK(), LENET, 26620)[2] == 1000
    assert quota_counts(IGQ(), LENET, 3) == [1, 1, 1]


def test_quotas_are_found_by_name_object_and_function():
    assert get_quotas("erk") == ERK()
    assert get_quotas(IGQ()) == IGQ()
    assert UniformPlus(0.3) != UniformPlus()

    def halves(shapes, density):
        return [density] * len(shapes)

    assert quota_counts(get_quotas(halves), [(4, 4), (2, 2)], 10) == [8, 2]
    for wrong in ("gas", 3, None, ERK):
        with pytest.raises(ValueError, match="`quotas` must be one of.*Received"):
            get_quotas(wrong)


def test_quotas_that_cannot_be_met():
    too_much = get_quotas(lambda shapes, density: [2.0] * len(shapes))
    with pytest.raises(ValueError, match="share in .0, 1. for each of 2 kernels"):
        quota_counts(too_much, [(4, 4), (2, 2)], 10)
    stingy = get_quotas(lambda shapes, density: [0.1] * len(shapes))
    with pytest.raises(ValueError, match="can't be met"):
        quota_counts(stingy, [(4, 4), (2, 2)], 10)
    with pytest.raises(ValueError, match="can't be kept"):
        quota_counts(Uniform(), [(4, 4)], 17)
