"""Non-negative numbers of any size: each with a mantissa and an exponent of its own.

A product along the paths of a deep network leaves the range of floating point numbers,
and so may a tensor's largest entry over its smallest. Here every number has its own
exponent, and functions that are linear in each of their arguments are computed on parts
of the arguments whose numbers are of similar size. Nothing is negative, so that nothing
cancels: each sum is exact to a few units in the last place of float64.
"""

import dataclasses
import itertools

import keras
import numpy as np

from scl_keras import backend
from scl_keras.pruning.gradients import pull_back_arrays

_WIDTH = 64
"""Bits that the exponents of a part span: products of four parts fit into float64."""
_NOTHING = -(2**40)
"""Exponent of zero."""


@dataclasses.dataclass(frozen=True)
class Scaled:
    """The numbers `mantissa · 2^exponent`, none of them negative.

    Attributes:
        mantissa: float64 array with entries in [0.5, 1), or 0.
        exponent: int64 array of the same shape.
    """

    mantissa: np.ndarray
    exponent: np.ndarray

    @classmethod
    def of(cls, values, exponent=0):
        """`values · 2^exponent`, for an array of finite non-negative floats."""
        mantissa, own = np.frexp(np.asarray(values, "float64"))
        exponent = np.where(mantissa > 0, own.astype("int64") + exponent, _NOTHING)
        return cls(mantissa, exponent)

    def __add__(self, other):
        top = np.maximum(self.exponent, other.exponent)
        aligned = (
            np.ldexp(x.mantissa, np.maximum(x.exponent - top, -1100).astype("int32"))
            for x in (self, other)
        )
        return Scaled.of(sum(aligned), top)

    def __mul__(self, other):
        exponent = np.maximum(self.exponent + other.exponent, _NOTHING)
        return Scaled.of(self.mantissa * other.mantissa, exponent)

    def log2(self):
        """Logarithms to base two, float64; minus infinity for zeros."""
        with np.errstate(divide="ignore"):
            return np.log2(self.mantissa) + self.exponent


def apply(function, xs, kernels):
    """A function of scaled arrays.

    Args:
        function: `function(xs, kernels)`, with lists of float64 arrays, that returns a
            list of tensors: linear in all of `xs` together and in each of `kernels`,
            with non-negative coefficients.
        xs: List of `Scaled`.
        kernels: List of `Scaled`.

    Returns:
        A list of `Scaled`.
    """
    total = None
    for combination in itertools.product(_parts(xs), *map(_parts_of_one, kernels)):
        (x_values, _), *kernel_parts = combination
        with backend.double_precision():
            ys = function(x_values, [k for k, _ in kernel_parts])
            ys = [keras.ops.convert_to_numpy(y) for y in ys]
        exponent = sum(shift for _, shift in combination)
        total = _added(total, ys, exponent)
    return total


def apply_backwards(function, xs, kernels, upstream):
    """Vector-Jacobian product of a function as `apply` takes it.

    Args:
        function: See `apply`.
        xs: See `apply`.
        kernels: See `apply`.
        upstream: List of `Scaled`, one for each of its results.

    Returns:
        Two lists of `Scaled`, for `xs` and for `kernels`.
    """
    groups = [_parts(xs), *map(_parts_of_one, kernels), _parts(upstream)]
    of_xs, of_kernels = None, [None] * len(kernels)
    for choice in itertools.product(*(range(len(group)) for group in groups)):
        parts = [group[i] for group, i in zip(groups, choice, strict=True)]
        (x_values, _), *kernel_parts, (g_values, _) = parts
        shift = sum(s for _, s in parts)
        kernel_values = [k for k, _ in kernel_parts]
        dxs, dks = pull_back_arrays(function, x_values, kernel_values, g_values)
        # The derivative by an argument doesn't depend on it: one of its parts will do.
        if choice[0] == 0:
            of_xs = _added(of_xs, dxs, shift - parts[0][1])
        for i, dk in enumerate(dks, 1):
            if choice[i] == 0:
                (of_kernels[i - 1],) = _added(
                    of_kernels[i - 1] and [of_kernels[i - 1]], [dk], shift - parts[i][1]
                )
    return of_xs, of_kernels


def _added(total, values, exponent):
    new = [Scaled.of(v, exponent) for v in values]
    return new if total is None else [a + b for a, b in zip(total, new, strict=True)]


def _parts(xs):
    """Splits arrays into parts `(list of float64 arrays, exponent)` of similar size."""
    # Zeros have an exponent of their own, far below.
    top = max((int(x.exponent.max()) for x in xs if x.exponent.size), default=_NOTHING)
    if top <= _NOTHING // 2:
        return [([np.zeros(x.mantissa.shape) for x in xs], 0)]
    levels = [np.where(x.mantissa > 0, (top - x.exponent) // _WIDTH, -1) for x in xs]
    parts = []
    for level in np.unique(np.concatenate([np.ravel(part) for part in levels])):
        if level >= 0:
            shift = top - int(level) * _WIDTH
            values = [
                np.ldexp(
                    np.where(part == level, x.mantissa, 0),
                    np.clip(x.exponent - shift, -_WIDTH, 0).astype("int32"),
                )
                for x, part in zip(xs, levels, strict=True)
            ]
            parts.append((values, shift))
    return parts


def _parts_of_one(kernel):
    return [(values[0], shift) for values, shift in _parts([kernel])]
