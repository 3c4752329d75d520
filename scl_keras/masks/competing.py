"""Where mask variables start of which only some can be kept."""

import keras
from keras import ops

from scl_keras.masks.constraint import BOUND, LEAST_RATIO


class Competing:
    """Initializes the variable of a mask by the weights that it masks.

    Where all start alike, which of a group are kept (see `NM`) would have nothing to do
    with their weights. So a positive constant `c` becomes `c · |v| / sqrt(mean(v²))`,
    and at least `0.01 · c`; what another initializer gives stays as it is.

    Args:
        mask: A `Mask` with `kernel_values`, or without: then nothing is known of them.
    """

    def __init__(self, mask):
        self._mask = mask

    def __call__(self, shape, dtype=None):
        """Values for the mask variable, when it is created: a tensor."""
        mask = self._mask
        s = mask.initializer(shape, dtype=dtype)
        is_constant = isinstance(mask.initializer, keras.initializers.Constant)
        if mask.kernel_values is None or not is_constant:
            return s
        v = ops.cast(ops.convert_to_tensor(mask.kernel_values()), "float32")
        typical = ops.sqrt(ops.mean(ops.square(v)))
        ratio = ops.abs(v) / ops.where(typical > 0, typical, 1.0)
        s = ops.cast(s, "float32")
        start = ops.minimum(s * ops.maximum(ratio, LEAST_RATIO), BOUND)
        return ops.cast(ops.where(s > 0, start, s), dtype)
