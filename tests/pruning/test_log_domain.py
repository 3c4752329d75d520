from fractions import Fraction

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_keras.pruning.log_domain import apply, apply_backwards

# Mantissas and exponents far beyond those of float64, and zeros.
numbers = st.tuples(st.integers(0, 7), st.integers(-5000, 5000))


def logarithms(pairs, shape):
    return np.reshape([log(Fraction(m) * Fraction(2) ** e) for m, e in pairs], shape)


def exact(pairs):
    return [Fraction(m) * Fraction(2) ** e for m, e in pairs]


def log(fraction):
    """Of a fraction of any size, by way of one between 1/2 and 2."""
    if not fraction:
        return -np.inf
    shift = fraction.numerator.bit_length() - fraction.denominator.bit_length()
    return float(np.log(float(fraction / Fraction(2) ** shift))) + shift * np.log(2)


def assert_equal(found, expected):
    """Equal to 1e-10 of each entry: logarithms are up to 20,000."""
    wanted = np.reshape([log(value) for value in expected], found.shape)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


@settings(max_examples=15)
@given(st.data())
def test_matrix_products_and_their_gradients_of_any_size(data):
    pairs = [data.draw(st.lists(numbers, min_size=n, max_size=n)) for n in (3, 6, 4, 2)]
    x, w, v, g = map(exact, pairs)

    def product(xs, kernels):
        hidden = tf.matmul(xs[0], kernels[0])
        return [tf.matmul(hidden, kernels[1])]

    xs = [logarithms(pairs[0], (1, 3))]
    kernels = [logarithms(pairs[1], (3, 2)), logarithms(pairs[2], (2, 2))]
    hidden = [sum(x[i] * w[2 * i + j] for i in range(3)) for j in range(2)]
    y = [sum(hidden[i] * v[2 * i + j] for i in range(2)) for j in range(2)]
    (found,) = apply(product, xs, kernels)
    assert_equal(found, y)
    upstream = [logarithms(pairs[3], (1, 2))]
    (dx,), (dw, dv) = apply_backwards(product, xs, kernels, upstream)
    dh = [sum(v[2 * i + j] * g[j] for j in range(2)) for i in range(2)]
    assert_equal(dx, [sum(w[2 * i + j] * dh[j] for j in range(2)) for i in range(3)])
    assert_equal(dw, [x[i] * dh[j] for i in range(3) for j in range(2)])
    assert_equal(dv, [hidden[i] * g[j] for i in range(2) for j in range(2)])
