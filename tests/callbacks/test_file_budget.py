import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scl_keras import find_masks, sparsify
from scl_keras.callbacks.budget import Budget
from scl_keras.callbacks.file_budget import FileBudget


class Costing(FileBudget):
    """One whose cost is a function of the number of connections."""

    def __init__(self, function, limit, least=2, most=10**6):
        budget = type("Limits", (), {"least": least, "most": most})
        super().__init__(budget, lambda: math.nan, limit)
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "trials", 0)

    def cost(self, count, heights):
        object.__setattr__(self, "trials", self.trials + 1)
        assert self.budget.least <= count <= self.budget.most
        return self.function(count)


@given(
    fixed=st.floats(0, 1e4),
    each=st.floats(1e-3, 8),
    power=st.floats(0.5, 1.5),
    share=st.floats(0.01, 0.99),
    guess=st.integers(1, 2 * 10**6),
)
def test_smooth_costs_are_met_within_five_percent(fixed, each, power, share, guess):
    def function(count):
        return fixed + each * count**power

    least, most = function(2), function(10**6)
    limit = least * (most / least) ** share
    file = Costing(function, limit)
    count = file.count(guess, None)
    assert function(count) <= limit
    assert function(count) >= 0.95 * limit or function(count + 1) > limit
    assert file.trials <= 16


def test_steps_and_noise_end_below_the_limit():
    rng = np.random.default_rng(0)
    file = Costing(lambda n: 1000 * (1 + n // 4000) * rng.uniform(0.98, 1.02), 9_500)
    assert 24_000 <= file.count(100, None) < 40_000


def test_a_plateau_above_the_limit_leaves_the_least():
    file = Costing(lambda count: 50.0, 49.0)
    assert file.count(1000, None) == 2


@pytest.fixture
def masked():
    layers = [keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    sparsify(model)
    rng = np.random.default_rng(0)
    for mask in find_masks(model):
        mask.variable.assign(rng.normal(size=mask.variable.shape))
    return model


def test_masks_are_as_they_were_and_as_asked_for_meanwhile(masked):
    budget = Budget(masked, "connections", "masks")
    before = [mask.values() for mask in budget.masks]
    seen = []

    def measure():
        seen.append([np.flatnonzero(mask.values() > 0) for mask in budget.masks])
        return float(budget.kept())

    file = FileBudget(budget, measure, 20)
    heights = budget.heights([1.0, 1.0])
    assert file.cost(7, lambda: [h.copy() for h in heights]) == 7
    highest = np.sort(np.concatenate(heights))[-7]
    for mask, kept in zip(budget.masks, seen[0], strict=True):
        np.testing.assert_array_equal(kept, np.flatnonzero(mask.values() >= highest))
    assert file.least() == 2
    assert [kept.tolist() for kept in seen[1]] == [[0], [0]]
    assert file.count(40, file.alike) in (19, 20)
    assert not file.is_met()
    for mask, values in zip(budget.masks, before, strict=True):
        np.testing.assert_array_equal(mask.values(), values)
