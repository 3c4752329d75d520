"""Switching channels of what a layer returns."""

import keras
from keras import ops


def keeps_zero(layer):
    """Whether a layer has no activation, or one that is known to map zero to zero."""
    return getattr(layer, "activation", None) in _ZERO_AT_ZERO


_ZERO_AT_ZERO = {
    None,
    *(
        getattr(keras.activations, name)
        for name in (
            *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu"),
            *("silu", "tanh", "softsign", "mish", "hard_silu", "hard_tanh"),
        )
    ),
}


def switch_channels(x, switches, axis):
    """Multiplies the channels of a tensor with 0 or 1.

    Args:
        x: Tensor.
        switches: Float32 tensor with one entry for each channel.
        axis: The axis of the channels.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    shape = [1] * len(x.shape)
    shape[axis] = -1
    # In full precision: the gradients of switches add up over batch and positions.
    wide = "float64" if x.dtype == "float64" else "float32"
    switched = ops.cast(x, wide) * ops.cast(ops.reshape(switches, shape), wide)
    return ops.cast(switched, x.dtype)
