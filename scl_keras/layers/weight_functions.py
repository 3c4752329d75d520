"""Regularizers and constraints as a masked kernel has them."""

import keras
from keras import ops


class OnMaskedKernel(keras.regularizers.Regularizer):
    """A regularizer that sees `v * H(s)` instead of `v`."""

    def __init__(self, regularizer, mask):
        self.regularizer, self.mask = regularizer, mask

    def __call__(self, kernel):
        """The penalty of the masked kernel, a scalar."""
        return self.regularizer(self.mask.mask_kernel(kernel))


class OnKeptConnections(keras.constraints.Constraint):
    """A constraint that sees `v * H(s)`, and leaves the cut connections' values."""

    def __init__(self, constraint, mask):
        self.constraint, self.mask = constraint, mask

    def __call__(self, kernel):
        """The kernel, with what the constraint makes of its kept connections."""
        kernel = ops.convert_to_tensor(kernel)
        kept = self.mask.kept()
        return ops.where(
            ops.cast(kept, "bool"),
            self.constraint(ops.multiply(kernel, ops.cast(kept, kernel.dtype))),
            kernel,
        )
