"""Runs of connections that are switched together."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from scl_keras import checks
from scl_keras.masks.granularity.base import Granularity, axis_of
from scl_keras.types import Shape, Tensor


@keras.saving.register_keras_serializable("scl_keras")
@dataclasses.dataclass(frozen=True)
class Block(Granularity):
    """Runs of `size` consecutive connections along an axis are switched together.

    Where `size` doesn't divide the axis, the last block is shorter. Two runtimes have
    kernels for such blocks. TFLite's 1x4 form of a `Dense` layer needs 4 consecutive
    inputs of one output: `Block(4, axis=-2)`. XNNPACK's sparse 1x1 convolutions are
    fastest with 4 (or 2) consecutive output channels of one input: `Block(4, axis=-1)`
    (`xnn_create_convolution2d_nchw_f32` takes them where 90 % of the values in such
    blocks are non-zero).

    Args:
        size: Length of a run, at least 1.
        axis: Axis of the kernel along which a run lies. -2 are the inputs and -1 the
            outputs of `Dense` and `Conv` kernels.

    Raises:
        ValueError: If `size` isn't an integer of at least 1, or `axis` isn't an
            integer. When the layer is built: if its kernel has no such axis.

    Example:

    ```python
    layer = MaskedDense(10, granularity=Block(4))
    layer.build((None, 30))
    layer.kernel_mask.variable.shape  # (8, 10)
    ```
    """

    size: int
    axis: int = -2

    def __post_init__(self):
        size = checks.integer("size", self.size, "an integer of at least 1", least=1)
        axis = checks.integer("axis", self.axis, "an integer: an axis of the kernel")
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "axis", axis)

    def variable_shape(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> Shape:
        """The kernel's shape, its `axis` divided by `size` and rounded up."""
        shape = list(kernel_shape)
        axis = axis_of(self.axis, kernel_shape)
        shape[axis] = -(-shape[axis] // self.size)
        return tuple(shape)

    def expand(self, switches: Tensor, kernel_shape: Shape) -> Tensor:
        """Repeats each entry `size` times along `axis`, the last one less often."""
        axis = axis_of(self.axis, kernel_shape)
        repeated = ops.repeat(switches, self.size, axis=axis)
        if kernel_shape[axis] % self.size == 0:
            return repeated
        return repeated[(slice(None),) * axis + (slice(kernel_shape[axis]),)]

    def sizes(
        self, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> int | np.ndarray:
        """`size`, and less for the last block along the axis."""
        axis = axis_of(self.axis, kernel_shape)
        count, rest = divmod(kernel_shape[axis], self.size)
        if not rest:
            return self.size
        shape = [-1 if i == axis else 1 for i in range(len(kernel_shape))]
        return np.array([self.size] * count + [rest], "int32").reshape(shape)

    def __str__(self):
        return f"block of {self.size} along axis {self.axis}"
