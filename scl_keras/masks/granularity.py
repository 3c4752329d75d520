"""What one mask variable switches: a connection, a block, or a whole channel."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from scl_keras import checks
from scl_keras.types import Shape, Tensor

_PACKAGE = "scl_keras"


@dataclasses.dataclass(frozen=True)
class Granularity:
    """Base class of granularities: how mask variables are laid over a kernel.

    Mask variables have a shape of their own, coarser than the kernel's or equal to it,
    and each switches all connections under it, on or off. The straight-through
    estimator acts on the mask variable, before it is spread over the kernel: its
    gradient is the sum of those of its connections,
    `dL/ds = p(s) · Σ dL/dw · v`, and its price is that of as many connections.

    A subclass gives `variable_shape`, `expand` and `sizes`, and says so in its `str`.

    Example:

    ```python
    Block(4).variable_shape((30, 10), feature_axes=(-1,))  # (8, 10)
    Connection().variable_shape((30, 10), feature_axes=(-1,))  # (30, 10)
    ```
    """

    def variable_shape(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> Shape:
        """Shape of the mask variable over a kernel.

        Args:
            kernel_shape: Tuple of ints.
            feature_axes: The kernel's axes that index its features.

        Returns:
            A tuple of as many ints.
        """
        raise NotImplementedError

    def expand(self, switches: Tensor, kernel_shape: Shape) -> Tensor:
        """Spreads a tensor of the mask variable's shape over the kernel.

        Args:
            switches: Tensor of the shape `variable_shape` gives.
            kernel_shape: Tuple of ints.

        Returns:
            A tensor of shape `kernel_shape`, of the same dtype.
        """
        raise NotImplementedError

    def sizes(
        self, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> int | np.ndarray:
        """Number of connections that each mask variable switches.

        Returns:
            An int where all switch the same number, else an int32 NumPy array of the
            mask variable's rank that broadcasts to its shape.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The granularity that `get_config` described."""
        return cls(**config)


@keras.saving.register_keras_serializable(_PACKAGE)
@dataclasses.dataclass(frozen=True)
class Connection(Granularity):
    """Each connection is switched for itself: `w = v * H(s)`, `s` of `v`'s shape.

    Example:

    ```python
    layer = MaskedDense(10, granularity=Connection())
    layer.build((None, 30))
    layer.kernel_mask.variable.shape  # (30, 10)
    ```
    """

    def variable_shape(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> Shape:
        """The kernel's shape."""
        return tuple(kernel_shape)

    def expand(self, switches: Tensor, kernel_shape: Shape) -> Tensor:
        """`switches`."""
        return switches

    def sizes(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> int:
        """1."""
        return 1

    def __str__(self):
        return "connection"


@keras.saving.register_keras_serializable(_PACKAGE)
@dataclasses.dataclass(frozen=True)
class Block(Granularity):
    """Runs of `size` consecutive connections along an axis are switched together.

    Where `size` doesn't divide the axis, the last block is shorter. Two runtimes have
    kernels for such blocks: TFLite's 1x4 form of a `Dense` layer wants 4 consecutive
    inputs of one output, `Block(4, axis=-2)`; XNNPACK's sparse 1x1 convolutions are
    fastest for 4 (or 2) consecutive output channels of one input, `Block(4, axis=-1)`
    (`xnn_create_convolution2d_nchw_f32` takes them where 90 % of the values in such
    blocks are non-zero).

    Args:
        size: Length of a run, at least 1.
        axis: Axis of the kernel along which it lies; -2 are the inputs and -1 the
            outputs of `Dense` and `Conv` kernels.

    Raises:
        ValueError: If an argument is something else; when the layer is built, if its
            kernel has no such axis.

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
        axis = _axis(self.axis, kernel_shape)
        shape[axis] = -(-shape[axis] // self.size)
        return tuple(shape)

    def expand(self, switches: Tensor, kernel_shape: Shape) -> Tensor:
        """Repeats each entry `size` times along `axis`, the last one less often."""
        axis = _axis(self.axis, kernel_shape)
        repeated = ops.repeat(switches, self.size, axis=axis)
        if kernel_shape[axis] % self.size == 0:
            return repeated
        return repeated[(slice(None),) * axis + (slice(kernel_shape[axis]),)]

    def sizes(
        self, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> int | np.ndarray:
        """`size`, and less for the last block along the axis."""
        axis = _axis(self.axis, kernel_shape)
        count, rest = divmod(kernel_shape[axis], self.size)
        if not rest:
            return self.size
        shape = [-1 if i == axis else 1 for i in range(len(kernel_shape))]
        return np.array([self.size] * count + [rest], "int32").reshape(shape)

    def __str__(self):
        return f"block of {self.size} along axis {self.axis}"


@keras.saving.register_keras_serializable(_PACKAGE)
@dataclasses.dataclass(frozen=True)
class Channel(Granularity):
    """Whole channels are switched: all of a kernel at one place along some axes.

    By default that is a feature, an output unit or filter, with all of its inputs. It
    goes with its bias, and is switched where it is complete: behind the layer's
    activation, or the batch normalization and activation that follow it (see
    `ChannelFollower`). A channel that is cut is zero, and `compact` can remove it.

    With `Channel((-2,))` channels are switched where they are read: what makes them has
    no reader left where they are cut, and is removed with them.

    Args:
        axes: Axes of the kernel that index channels; by default those of its features.
            `(-2,)` switches whole inputs of `Dense` and `Conv` layers.

    Raises:
        ValueError: If `axes` is something else; when the layer is built, if its kernel
            has no such axis.

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
        return {_axis(axis, kernel_shape) for axis in axes}

    def switches_features(
        self, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> bool:
        """Whether its channels are the kernel's features."""
        features = {_axis(axis, kernel_shape) for axis in feature_axes}
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


_BY_NAME = {"connection": Connection, "channel": Channel}


def get(identifier):
    """Finds a granularity.

    Args:
        identifier: `"connection"`, `"channel"`, a `Granularity`, or what `serialize`
            gave.

    Returns:
        A `Granularity`.

    Raises:
        ValueError: If there is no such granularity.

    Example:

    ```python
    get("channel")  # Channel(axes=None)
    ```
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in _BY_NAME:
        identifier = _BY_NAME[identifier]()
    if not isinstance(identifier, Granularity):
        raise ValueError(
            f"`granularity` must be one of {sorted(_BY_NAME)} or a `Granularity` "
            f"object, such as `Block(4)`. Received: granularity={identifier!r}"
        )
    return identifier


def serialize(granularity):
    """The granularity as a JSON-able dict, which `get` reads."""
    return keras.saving.serialize_keras_object(granularity)


def _axis(axis, shape):
    rank = len(shape)
    if not -rank <= axis < rank:
        raise ValueError(
            f"A kernel of shape {tuple(shape)} has no axis {axis} to lay masks along. "
            "Choose another granularity for this layer."
        )
    return axis % rank
