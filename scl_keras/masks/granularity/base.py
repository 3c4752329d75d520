"""What granularities have in common, and the finest of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np

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
    One that allows only some of the connections to be kept at a time, as `NM` does,
    gives `admitted` and `capacity`, too.

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

    def admitted(
        self, s: Tensor, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> Tensor | None:
        """Which mask variables may keep their connections, those above zero.

        Args:
            s: Values of the mask variable, a tensor or a NumPy array.
            kernel_shape: Tuple of ints.
            feature_axes: The kernel's axes that index its features.

        Returns:
            A boolean tensor of the shape of `s` (an array of an array), or None: all.
        """
        return None

    def capacity(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> int:
        """Number of connections that can be kept at most; by default all."""
        return math.prod(kernel_shape)

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


def axis_of(axis, shape):
    """An axis of a kernel of some shape, counted from 0: refused if there is none."""
    rank = len(shape)
    if not -rank <= axis < rank:
        raise ValueError(
            f"A kernel of shape {tuple(shape)} has no axis {axis} to lay masks along. "
            "Choose another granularity for this layer."
        )
    return axis % rank
