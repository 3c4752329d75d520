"""At most N of every M consecutive connections, as sparse tensor cores take them."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scl_keras import checks
from scl_keras.masks.granularity.base import Connection, axis_of
from scl_keras.types import Shape, Tensor


@keras.saving.register_keras_serializable("scl_keras")
@dataclasses.dataclass(frozen=True)
class NM(Connection):
    """N:M sparsity: of every `m` consecutive connections at most `n` are kept.

    `NM(2, 4)` is what NVIDIA's sparse tensor cores and Arm's Ethos-U85 compute with,
    and TFMOT's `sparsity_m_by_n=(2, 4)`. (There, the first number is that of zeros.)

    Groups lie along the inputs of each feature: of a `Dense` kernel `(in, out)` along
    its first axis, of a `Conv` kernel `(height, width, in, out)` along its last but
    one, at each position for itself. They begin at the first input. Where `m` doesn't
    divide the axis, the last group is shorter, of `r` connections, and at most `n` of
    these are kept, `min(n, r)`: filled up with zeros, as runtimes do it, it is a group
    like the others.

    Each connection has a mask variable of its own. With

    `Π(s)_i = s_i` if fewer than `n` of its group rank above it, else `min(s_i, 0)`

    a learned mask is `H(Π(s))`, where larger values rank above smaller ones, and of
    equal ones the first. `Π(s)` is the point nearest to `s` with at most `n` positive
    entries in each group, so that a group keeps its `n` largest mask variables, and
    fewer where fewer are positive: any sparsity from `1 - n/m` on can be learned, and
    none below.

    The gradient passes straight through `Π`, as it does through `H`:
    `dL/ds = dL/dw · v · p(Π(s))`. So a connection that is positive, but loses in its
    group, moves as any that is cut, by its task gradient and its price, and wins as
    soon as it ranks high enough. (This is ours: Tang et al., arXiv 2201.05020, have no
    groups. Zhou et al., *Learning N:M fine-grained structured sparse neural networks
    from scratch*, arXiv 2102.04010, rank by the weights themselves, pass gradients
    straight through to those that lose, too, and pull these to zero. Here a weight that
    is cut keeps its value, and the mask variables compete.)

    As equal mask variables would keep the first of each group, whatever their weights,
    learned masks start in proportion to the magnitudes of the weights, if their
    initializer gives a positive constant `c`: `s = c · |v| / sqrt(mean(v²))`, and at
    least `0.01 · c`.

    Fixed masks (`ste=None`) keep what they are assigned, all connections at first.
    `prune` leaves at most `n` of each `m`, and `GradualPruning` with its last update.
    `scl_keras.report.check_groups` tells whether all groups hold.

    Args:
        n: Number of connections kept at most, at least 1.
        m: Length of a group, above `n`.
        axis: Axis of the kernel along which groups lie. By default the last one that
            doesn't index features: the inputs of `Dense`, `Conv`, `ConvTranspose` and
            recurrent kernels. (A depthwise kernel has one input a feature, so that
            groups lie along its width, and an `Embedding` has words: no hardware gains
            there, and `layers` or a granularity by layers leave them out.)

    Raises:
        ValueError: If `n`, `m` or `axis` isn't such a whole number; when the layer is
            built, if its kernel has no such axis.

    Example:

    ```python
    NM(2, 4).most_kept([[1], [0], [1], [1], [1]])  # 3
    pruned = prune(dense_model, granularity=NM(2, 4), copy=True)
    ```
    """

    n: int
    m: int
    axis: int | None = None

    def __post_init__(self):
        names = ("n", "m") if self.axis is None else ("n", "m", "axis")
        for name in names:
            value = checks.integer(name, getattr(self, name), "an integer")
            object.__setattr__(self, name, value)
        if not 1 <= self.n < self.m:
            raise ValueError(
                "`NM(n, m)` keeps `n` of every `m` connections, with 1 <= n < m. "
                f"Received: n={self.n}, m={self.m}"
            )

    def variable_shape(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> Shape:
        """The kernel's shape."""
        self._axis(kernel_shape, feature_axes)  # says so if there is none
        return tuple(kernel_shape)

    def admitted(
        self, s: Tensor, kernel_shape: Shape, feature_axes: Sequence[int]
    ) -> Tensor:
        """The `n` largest of each group, of equal ones the first; see the base class.

        The sign doesn't matter: `n` are admitted also where all are cut.
        """
        xp = np if isinstance(s, np.ndarray) else ops
        axis = self._axis(kernel_shape, feature_axes)
        groups = self._groups(s, axis, -math.inf, xp)
        places = [groups[:, :, i] for i in range(self.m)]
        above = [0] * self.m  # how many of its group rank above each
        for i, j in itertools.combinations(range(self.m), 2):
            first = xp.where(places[i] >= places[j], 1, 0)
            above[j] = above[j] + first
            above[i] = above[i] + (1 - first)
        admitted = xp.stack([number < self.n for number in above], axis=2)
        return self._ungrouped(admitted, axis, kernel_shape, xp)

    def capacity(self, kernel_shape: Shape, feature_axes: Sequence[int]) -> int:
        """`n` for each group, or its length where that is less."""
        length = kernel_shape[self._axis(kernel_shape, feature_axes)]
        full, rest = divmod(length, self.m)
        kept = full * self.n + min(rest, self.n)
        return math.prod(kernel_shape) // length * kept

    def most_kept(self, kernel: Any, feature_axes: Sequence[int] = (-1,)) -> int:
        """The largest number of connections that are kept in any group.

        Args:
            kernel: Array of a kernel's shape: a mask, or weights with zeros where
                connections are cut.
            feature_axes: The kernel's axes that index its features; `(-1,)` for `Dense`
                and `Conv` kernels.

        Returns:
            An int: the kernel is N:M sparse where it is at most `n`.
        """
        kept = np.asarray(keras.ops.convert_to_numpy(kernel)) != 0
        axis = self._axis(kept.shape, feature_axes)
        return int(self._groups(kept, axis, False, np).sum(axis=2).max())

    def number_of_groups(
        self, kernel_shape: Shape, feature_axes: Sequence[int] = (-1,)
    ) -> int:
        """Number of groups in a kernel, shorter ones included."""
        length = kernel_shape[self._axis(kernel_shape, feature_axes)]
        return math.prod(kernel_shape) // length * -(-length // self.m)

    def _axis(self, kernel_shape, feature_axes):
        if self.axis is not None:
            return axis_of(self.axis, kernel_shape)
        rank = len(kernel_shape)
        features = {axis % rank for axis in feature_axes}
        inputs = [axis for axis in range(rank) if axis not in features]
        if not inputs:
            raise ValueError(
                f"A kernel of shape {tuple(kernel_shape)} with features along axes "
                f"{tuple(feature_axes)} has no inputs for groups to lie along. Choose "
                "another granularity for this layer, or name an `axis`. "
                f"Received: {self!r}"
            )
        return inputs[-1]

    def _groups(self, values, axis, filler, xp):
        """An array of shape `(before, groups, m, behind)`, the last group filled up."""
        shape = tuple(values.shape)
        missing = -shape[axis] % self.m
        if missing:
            widths = [(0, missing if i == axis else 0) for i in range(len(shape))]
            values = xp.pad(values, widths, constant_values=filler)
        before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        groups = (shape[axis] + missing) // self.m
        return xp.reshape(values, (before, groups, self.m, behind))

    def _ungrouped(self, values, axis, shape, xp):
        filled = (*shape[:axis], -(-shape[axis] // self.m) * self.m, *shape[axis + 1 :])
        values = xp.reshape(values, filled)
        return values[(slice(None),) * axis + (slice(shape[axis]),)]

    def __str__(self):
        where = "" if self.axis is None else f" along axis {self.axis}"
        return f"{self.n}:{self.m}{where}"
