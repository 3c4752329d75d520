"""What `LayerRule.reach` is often made of."""

import functools

from keras import ops


def elementwise(layer, x):
    """What depends on the entry at the same place."""
    return x


def as_called(layer, x):
    """Entries that are moved, repeated or left out: zeros and ones as any numbers."""
    return layer.call(x)


def mixed_along(x, axes):
    """What makes each position along some axes depend on all of them."""
    return ops.sum(x, axes, keepdims=True) + ops.zeros_like(x)


def along_own_axes(layer, x):
    """What makes each position along the layer's `axis` depend on all of them."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return mixed_along(x, tuple(axes))


def product(function, xs):
    """A product: it depends on each factor through all of the others.

    Args:
        function: What multiplies its arguments.
        xs: List of its factors.
    """
    ones = [ops.ones_like(x) for x in xs]
    return sum(function(*ones[:i], xs[i], *ones[i + 1 :]) for i in range(len(xs)))


def channels_last(function):
    """Lets a function see channels last: on CPUs there often is nothing else."""

    @functools.wraps(function)
    def run(layer, x, **kernels):
        if layer.data_format != "channels_first":
            return function(layer, x, **kernels)
        return ops.moveaxis(function(layer, ops.moveaxis(x, 1, -1), **kernels), -1, 1)

    return run
