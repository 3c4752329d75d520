"""Where mask variables may be: within bounds, one of them above zero."""

import keras
from keras import ops

BOUND = 1.0
"""Mask variables live in [-BOUND, BOUND], which `hard_tanh` clips to."""

BARELY_KEPT = 1e-6
"""Where a layer's last connection is held up."""

LEAST_RATIO = 0.01
"""Of where a typical weight's mask variable starts, that of a weight of zero."""

_STRIDE = 61  # prime: no multiple of a kernel's width


class MaskConstraint(keras.constraints.Constraint):
    """Keeps mask variables in [-1, 1], and holds up a layer's last connection.

    Args:
        min_connections: 0 or 1, see `Mask`.
    """

    def __init__(self, min_connections):
        self.min_connections = min_connections

    def __call__(self, s):
        """The admissible mask variable nearest to `s`."""
        s = ops.hard_tanh(s)  # `ops.clip` takes three times as long on PyTorch
        if not self.min_connections:
            return s
        # A sample mostly tells that something is left, and spares a pass over all.
        sample = ops.reshape(s, (-1,))[::_STRIDE]
        return ops.cond(ops.any(sample > 0), lambda: s, lambda: _hold_up(s))


def _hold_up(s):
    """Lifts the largest entry above zero, the first of them if there are several."""
    flat = ops.reshape(s, (-1,))
    # Without a dtype it would be int16 where the float type is one of 16 bits.
    places = ops.arange(flat.shape[0], dtype="int32")
    largest = ops.equal(places, ops.cast(ops.argmax(flat), "int32"))
    lift = ops.logical_and(ops.reshape(largest, s.shape), ops.less_equal(s, 0))
    return ops.where(lift, BARELY_KEPT, s)
