"""Whole channels that are switched together."""

import dataclasses
import math
from collections.abc import Sequence

import keras
from keras import ops

from scl_keras import checks
from scl_keras.masks.granularity.base import Granularity, axis_of
from scl_keras.types import Shape, Tensor


@keras.saving.register_keras_serializable("scl_keras")
@dataclasses.dataclass(frozen=True)
class Channel(Granularity):
    """Whole channels are switched: all connections at one index along some axes.

    By default a channel is a feature: an output unit or filter with all of its inputs.
    It goes together with its bias. It is switched after the layer's activation, or
    after the batch normalization and activation that follow the layer (see
    `ChannelFollower`). A channel that is cut is zero, and `compact` can remove it.

    With `Channel((-2,))` channels are switched where they are read. A channel that is
    cut there has no reader left, so `compact` removes what makes it, too.

    Args:
        axes: Axes of the kernel that index channels; by default those of its features.
            `(-2,)` switches whole inputs of `Dense` and `Conv` layers.

    Raises:
        ValueError: If `axes` isn't a tuple of axes. When the layer is built: if its
            kernel has no such axis.

    Example:

    ```python
    layer = MaskedConv2D(8, 3, granularity="channel")
    layer.build((None, 28, 28, 16))
    layer.kernel_mask.variable.shape  # (1, 1, 1, 8)
    ```
    """

    axes: tuple | None = None

    def __post_init__(self):
        if self.axes is None:
            return
        wanted = "a tuple of integers, or None for the axes of the features"
        axes = checks.integers("axes", self.axes, wanted)
        object.__setattr__(self, "axes", axes)

    def _axes(self, kernel_shape, feature_axes):
        axes = feature_axes if self.axes is None else self.axes
        return {axis_of(axis, kernel_shape) for axis in axes}

    def switches_features(
        self, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> bool:
        """Whether its channels are the kernel's features."""
        features = {axis_of(axis, kernel_shape) for axis in feature_axes}
        return self._axes(kernel_shape, feature_axes) == features

    def variable_shape(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> Shape:
        """The kernel's shape along `axes`, and 1 along the others."""
        axes = self._axes(kernel_shape, feature_axes)
        return tuple(n if i in axes else 1 for i, n in enumerate(kernel_shape))

    def expand(self, switches: Tensor, kernel_shape: Shape) -> Tensor:
        """Broadcasts to the kernel's shape."""
        return ops.broadcast_to(switches, kernel_shape)

    def sizes(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> int:
        """Connections over channels."""
        channels = math.prod(self.variable_shape(kernel_shape, feature_axes))
        return math.prod(kernel_shape) // channels

    def __str__(self):
        if self.axes is None:
            return "channel"
        return f"channel along axis {', '.join(map(str, self.axes))}"
