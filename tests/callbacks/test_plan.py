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
