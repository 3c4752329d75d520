"""Functions of non-negative numbers of any size, given by their logarithms.

A product along the paths of a deep network leaves the range of floating point numbers,
and so may a tensor's largest entry over its smallest. Here a number `v` is `log(v)`, in
float64, minus infinity for zero, and functions that are linear in each of their
arguments are computed on parts of the arguments whose numbers are of similar size.
Nothing is negative, so that nothing cancels: results are exact to `1e-15 · (1 + |log|)`
or so, relatively.
"""

import itertools

import keras
import numpy as np

from scl_keras import backend
from scl_keras.pruning.gradients import pull_back_arrays

_SPAN = 44.0
"""Logarithms that a part spans: products of four parts' numbers fit into float64."""


def log(values):
    """Natural logarithms of non-negative numbers, float64."""
    values = np.asarray(values, "float64")
    # Special values take several times as long, and most weights may be zero.
    return np.log(values, out=np.full(values.shape, -np.inf), where=values > 0)


def _exp(logarithms, shift):
    """`exp(logarithms - shift)`."""
    out = np.zeros(logarithms.shape)
    some = logarithms > -np.inf
    np.subtract(logarithms, shift, out=out, where=some)
    return np.exp(out, out=out, where=some)


def apply(function, xs, kernels):
    """A function of numbers given by their logarithms.

    Args:
        function: `function(xs, kernels)`, with lists of float64 arrays, that returns a
            list of tensors: linear in all of `xs` together and in each of `kernels`,
            with non-negative coefficients.
        xs: List of arrays of logarithms.
        kernels: List of arrays of logarithms.

    Returns:
        A list of arrays, the results' logarithms.
    """
    total = None
    for combination in itertools.product(_parts(xs), *map(_parts_of_one, kernels)):
        (x_values, _), *kernel_parts = combination
        with backend.double_precision():
            # Some of Keras' functions don't take arrays, others change their dtype.
            arguments = keras.tree.map_structure(
                lambda x: keras.ops.convert_to_tensor(x, "float64"),
                (x_values, [k for k, _ in kernel_parts]),
            )
            ys = function(*arguments)
            ys = [keras.ops.convert_to_numpy(y) for y in ys]
        total = _added(total, ys, sum(shift for _, shift in combination))
    return total


def apply_backwards(function, xs, kernels, upstream):
    """Vector-Jacobian product of a function as `apply` takes it.

    Args:
        function: See `apply`.
        xs: See `apply`.
        kernels: See `apply`.
        upstream: List of arrays of logarithms, one for each of its results.

    Returns:
        Two lists of arrays of logarithms, for `xs` and for `kernels`.
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
                so_far = None if of_kernels[i - 1] is None else [of_kernels[i - 1]]
                (of_kernels[i - 1],) = _added(so_far, [dk], shift - parts[i][1])
    return of_xs, of_kernels


def _added(total, values, shift):
    """Logarithms of `total + values · exp(shift)`."""
    found = [log(v) + shift for v in values]
    if total is None:
        return found
    return [np.logaddexp(a, b) for a, b in zip(total, found, strict=True)]


def _parts(xs):
    """Splits numbers into parts `(list of arrays, shift)`: `array · exp(shift)`."""
    top = max((x.max() for x in xs if x.size), default=-np.inf)
    if top == -np.inf:
        return [([np.zeros(x.shape) for x in xs], 0.0)]
    bottom = min(np.min(x, initial=top, where=x > -np.inf) for x in xs)
    if top - bottom < _SPAN:
        return [([_exp(x, top) for x in xs], top)]
    parts = []
    levels = [np.floor((top - x) / _SPAN) for x in xs]  # infinite for zeros
    for level in np.unique(np.concatenate([np.ravel(part) for part in levels])):
        if level < np.inf:
            shift = top - level * _SPAN
            values = [
                _exp(np.where(part == level, x, -np.inf), shift)
                for x, part in zip(xs, levels, strict=True)
            ]
            parts.append((values, shift))
    return parts


def _parts_of_one(kernel):
    return [(values[0], shift) for values, shift in _parts([kernel])]
