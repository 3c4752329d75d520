import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_keras import ConstantSparsity, PolynomialDecay

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensorflow_model_optimization.sparsity import keras as tfmot

sparsities = st.floats(0, 0.99)
steps = st.integers(0, 300)
NAN = float("nan")


def assert_same(ours, theirs):
    for step in range(0, 400, 7):
        due, sparsity = theirs(step)
        assert ours.is_due(step) == bool(due)
        assert ours(step) == pytest.approx(float(sparsity), abs=1e-6)


@settings(max_examples=15)
@given(sparsities, steps, st.integers(-1, 200), st.integers(1, 50))
def test_constant_sparsity_is_that_of_tfmot(target, begin, length, frequency):
    arguments = target, begin, -1 if length < 0 else begin + length, frequency
    theirs = tfmot.ConstantSparsity(*arguments)
    assert_same(ConstantSparsity(*arguments), theirs)


@settings(max_examples=15)
@given(
    sparsities,
    sparsities,
    steps,
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(1, 50),
)
def test_polynomial_decay_is_that_of_tfmot(first, last, begin, length, power, every):
    arguments = first, last, begin, begin + length, power, every
    theirs = tfmot.PolynomialDecay(*arguments)
    assert_same(PolynomialDecay(*arguments), theirs)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: ConstantSparsity(1.0, 0), "target_sparsity"),
        (lambda: ConstantSparsity(0.5, -1), "begin_step"),
        (lambda: ConstantSparsity(0.5, 5, 4), "end_step"),
        (lambda: ConstantSparsity(0.5, 5, frequency=0), "frequency"),
        (lambda: PolynomialDecay(-0.1, 0.5, 0, 10), "initial_sparsity"),
        (lambda: PolynomialDecay(0.1, 1.5, 0, 10), "final_sparsity"),
        (lambda: PolynomialDecay(0.1, 0.5, 0, -1), "end_step"),
        (lambda: PolynomialDecay(0.1, 0.5, 3, 3), "end_step"),
        (lambda: PolynomialDecay(0.1, 0.5, 0, 10, power=-3), "power"),
        (lambda: PolynomialDecay(0.1, 0.5, 0, 10, power=0), "power"),
        (lambda: PolynomialDecay(0.1, 0.5, 0, 10, power=NAN), "power"),
        (lambda: PolynomialDecay(NAN, 0.5, 0, 10), "initial_sparsity"),
        (lambda: PolynomialDecay(0.1, NAN, 0, 10), "final_sparsity"),
        (lambda: PolynomialDecay(0.1, 0.5, NAN, 10), "begin_step"),
        (lambda: PolynomialDecay(0.1, 0.5, 0, float("inf")), "end_step"),
        (lambda: PolynomialDecay(0.1, 0.5, 0, 10.5), "end_step"),
        (lambda: ConstantSparsity(NAN, 0), "target_sparsity"),
        (lambda: ConstantSparsity(0.5, 0, frequency=NAN), "frequency"),
    ],
)
def test_arguments_out_of_range(make, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        make()
