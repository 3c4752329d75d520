import keras
import numpy as np
import pytest

from scl_keras.callbacks.plan import Plan


@pytest.mark.parametrize("target", [1, 2**24 + 1, 2**30, 5 * 10**9 + 1, 2**59 + 3])
def test_a_plan_of_any_size_is_known_again(target):
    variable = keras.Variable(np.zeros((9, 2)), dtype="int32")
    plan = Plan(2, 9, 2 * target + 1, target, 3, 4, 17, 34, 7)
    plan.write(variable)
    assert Plan.read(variable) == plan
    assert Plan.read(variable).goes_on(plan, 5)


@pytest.mark.parametrize(
    ("start", "target", "expected"),
    [(1000, 900, 0), (1000, 100, 0), (10**4, 100, 1 / 2), (10**6, 10**3, 2 / 3)],
)
def test_the_rate_falls_over_the_share_of_one_factor_of_ten(start, target, expected):
    plan = Plan(0, 9, start, target, 0, 0)
    assert plan.falls_from == pytest.approx(expected)
    assert Plan(0, 9, target, start, 0, 0).falls_from == 0  # on the way up
