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


def resized(resize, x, shape):
    """What makes a position of an image depend on those that it is interpolated from.

    Args:
        resize: A layer or operation with the arguments of `keras.ops.image.resize` in
            its attributes.
        x: A tensor of images.
        shape: Shape of what it becomes.
    """
    first = -2 if resize.data_format == "channels_first" else -3
    for axis in (first, first + 1):
        # Resized along one axis, an identity matrix tells of all the weights.
        one_hot = ops.eye(x.shape[axis], dtype="float32")
        weights = ops.image.resize(
            ops.expand_dims(one_hot, 1),
            (shape[axis], 1),
            interpolation=resize.interpolation,
            antialias=getattr(resize, "antialias", False),
            data_format="channels_last",
        )
        reads = ops.cast(ops.abs(weights[:, 0]) > _ROUNDING, x.dtype)
        x = ops.moveaxis(ops.tensordot(x, reads, [[axis], [1]]), -1, axis)
    return x


_ROUNDING = 1e-5


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
