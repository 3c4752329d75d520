"""How often each connection is used: the multiply-accumulates of a network."""

import math

from scl_keras.graph import output_shapes
from scl_keras.kernels import prunable_kernels


def kernel_positions(kernel_shape, feature_axes, output_shape):
    """Number of output positions that one connection of a kernel serves.

    One connection costs one multiply-accumulate a position: 1 for a `Dense` layer on
    vectors, height x width of the output for a convolution.

    Args:
        kernel_shape: Shape of the kernel.
        feature_axes: Its axes that index features.
        output_shape: Shape of the layer's output, batch axis first.

    Returns:
        An int, or None where the size of the kernel's output isn't known.
    """
    if output_shape is None or None in output_shape[1:]:
        return None
    features = math.prod(kernel_shape[axis] for axis in feature_axes)
    if features not in (output_shape[1], output_shape[-1]):
        return None  # an inner kernel: its output isn't the layer's
    return math.prod(output_shape[1:]) // features


def connection_positions(model):
    """Number of positions that each layer's connections serve, over all its calls.

    Args:
        model: A built Keras model.

    Returns:
        A function from a kernel (see `scl_keras.kernels.Kernel`) to that number, or
        None where a size isn't known.
    """
    shapes = {}
    for layer, shape in output_shapes(model):
        shapes.setdefault(id(layer), []).append(shape)

    def positions(kernel):
        used = [
            kernel_positions(kernel.shape, kernel.feature_axes, shape)
            for shape in shapes.get(id(kernel.layer), [])
        ]
        return None if not used or None in used else sum(used)

    return positions


def record_positions(model):
    """Writes into each mask how many positions its connections serve."""
    positions = connection_positions(model)
    for kernel in prunable_kernels(model):
        if kernel.mask is not None:
            kernel.mask.positions = positions(kernel)
