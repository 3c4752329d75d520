from fractions import Fraction

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_keras.pruning.scaled import Scaled, apply, apply_backwards

# Mantissas and exponents far beyond those of float64, and zeros.
numbers = st.tuples(st.integers(0, 7), st.integers(-5000, 5000))


def scaled(pairs, shape=None):
    mantissa = np.array([m for m, _ in pairs], float).reshape(shape or -1)
    return Scaled.of(mantissa, np.array([e for _, e in pairs]).reshape(shape or -1))


def exact(pairs):
    return [Fraction(m) * Fraction(2) ** e for m, e in pairs]


def assert_equal(found, expected):
    """Equal to 1e-12 of each entry."""
    mantissas, exponents = found.mantissa.ravel(), found.exponent.ravel()
    for m, e, value in zip(mantissas, exponents, expected, strict=True):
        number = Fraction(float(m)) * Fraction(2) ** int(e) if m else Fraction(0)
        assert abs(number - value) <= value * Fraction(1, 10**12)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_sums_and_products_of_any_size(pairs):
    a, b = zip(*pairs, strict=True)
    x, y = exact(a), exact(b)
    assert_equal(scaled(a) + scaled(b), [p + q for p, q in zip(x, y, strict=True)])
    assert_equal(scaled(a) * scaled(b), [p * q for p, q in zip(x, y, strict=True)])


@settings(max_examples=15)
@given(st.data())
def test_matrix_products_and_their_gradients_of_any_size(data):
    pairs = [data.draw(st.lists(numbers, min_size=n, max_size=n)) for n in (3, 6, 4, 2)]
    x, w, v, g = map(exact, pairs)

    def product(xs, kernels):
        hidden = tf.matmul(xs[0], kernels[0])
        return [tf.matmul(hidden, kernels[1])]

    xs = [scaled(pairs[0], (1, 3))]
    kernels = [scaled(pairs[1], (3, 2)), scaled(pairs[2], (2, 2))]
    hidden = [sum(x[i] * w[2 * i + j] for i in range(3)) for j in range(2)]
    y = [sum(hidden[i] * v[2 * i + j] for i in range(2)) for j in range(2)]
    (found,) = apply(product, xs, kernels)
    assert_equal(found, y)
    (dx,), (dw, dv) = apply_backwards(product, xs, kernels, [scaled(pairs[3], (1, 2))])
    dh = [sum(v[2 * i + j] * g[j] for j in range(2)) for i in range(2)]
    assert_equal(dx, [sum(w[2 * i + j] * dh[j] for j in range(2)) for i in range(3)])
    assert_equal(dw, [x[i] * dh[j] for i in range(3) for j in range(2)])
    assert_equal(dv, [hidden[i] * g[j] for i in range(2) for j in range(2)])


def test_logarithms():
    found = scaled([(1, 4000), (3, 0), (0, 9)]).log2()
    np.testing.assert_allclose(found, [4000, np.log2(3), -np.inf])
