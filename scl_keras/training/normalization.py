"""Normalization of mask gradients: what gives one connection cost a meaning."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from scl_keras import checks
from scl_keras.masks.mask import Mask
from scl_keras.types import Shape, Tensor

_EPSILON = 1e-12
_OUTLIER = 4.0

PER = ("network", "layer", "feature", None)


@keras.saving.register_keras_serializable("scl_keras")
class GradientNormalization:
    """Divides mask gradients by their root mean square.

    Mask gradients of different networks, layers and features (output units or filters)
    differ by orders of magnitude. Dividing them by their root mean square puts them on
    one scale, so that a connection cost of 0.1 means "a connection must be worth a
    tenth of a typical mask gradient" in every network:

    `m_t = m_{t-1} + max(1 - memory, 1 / t) · (min(mean(g²), 4 m_{t-1}) - m_{t-1})`

    `ĝ = g / (sqrt(max(m_t, mean(g²))) + ε)`, `ε = 1e-12`

    `per` says over what the mean is taken. `"feature"` is the method of Tang et al.
    (arXiv 2201.05020): each feature has a scale of its own, and so every feature of
    every layer keeps a like share of connections. `"network"` is one scale for all
    masks: λ keeps its meaning, and a connection is weighed against all others of the
    network. The paper leaves the statistic and its memory open: with `memory=0` it is
    that of the batch at hand, with `0 < memory < 1` a running mean, with `memory=1` the
    mean over all steps so far. A gradient normalized batch by batch never fades, so
    that late in training it is noise of full size; with a memory it fades as the loss
    does. Where all gradients are zero they stay zero.

    Where a mask variable switches several connections, `n` of them, both its gradient,
    the sum of theirs, and its price, `n` times theirs, are divided by `n`: the update
    is per connection, `(g / scale + λ · n · c · p) / n`, and the mean is one over
    connections, `Σ n · (g / n)² / Σ n`. What decides between keeping and cutting, a
    gradient against a price, stays the gradient of one objective with one λ, however
    granularities are mixed; only the speed at which a mask variable moves is changed
    (a diagonal preconditioning), and is that of all others. Per `"feature"`, masks
    that switch whole features are normalized with their layer: each would be its own
    and only scale.

    Args:
        per: `"network"`, `"layer"` (a scale for each kernel), `"feature"`, or None for
            none at all: then the update is the gradient of the plain objective.
        memory: Float in [0, 1], see above.

    Raises:
        ValueError: If `per` isn't one of these, or `memory` not in [0, 1].

    Example:

    ```python
    per_batch = GradientNormalization("feature", memory=0)
    model.compile("adam", "mse", normalization=per_batch)
    ```
    """

    def __init__(self, per: str | None = "network", memory: float = 0.999) -> None:
        self.per = checks.one_of("per", per, PER)
        self.memory = checks.number(
            "memory", memory, "a number in [0, 1]", lambda x: 0 <= x <= 1
        )

    @classmethod
    def get(cls, identifier: Any) -> Self:
        """Finds a normalization: an object, its config, or a value of `per`.

        Raises:
            ValueError: If it is something else.
        """
        if isinstance(identifier, dict) and "class_name" in identifier:
            identifier = keras.saving.deserialize_keras_object(identifier)
        if isinstance(identifier, cls):
            return identifier
        known = identifier is None or isinstance(identifier, str)
        if not known or identifier not in PER:
            wanted = f"one of {PER} or a `GradientNormalization`"
            raise checks.refusal("normalization", identifier, wanted)
        return cls(identifier)

    def state_shapes(self, masks: Sequence[Mask]) -> dict[Any, Shape]:
        """Shapes of the statistics `m` for a list of masks: a dict."""
        shapes = {}
        for mask in masks if self.per else []:
            reduced = _reduced_axes(mask, self.per)
            shape = [
                1 if axis in reduced else size
                for axis, size in enumerate(mask.variable.shape)
            ]
            shapes[self._key(mask)] = () if self.per == "network" else tuple(shape)
        return shapes

    def _key(self, mask):
        return "network" if self.per == "network" else id(mask)

    def mean_squares(
        self, gradients: Sequence[Tensor], masks: Sequence[Mask]
    ) -> dict[Any, Tensor]:
        """The statistics of one step, `mean(g²)`.

        They are NaN or infinite if, and only if, a gradient is, or overflows.

        Args:
            gradients: List of tensors, each of its mask's shape.
            masks: List of the `Mask` objects they belong to.

        Returns:
            Dict of tensors with the keys and shapes of `state_shapes(masks)`.
        """
        pairs = zip(gradients, masks, strict=True)
        # One by one: all squares at once are as large as all gradients.
        squares = (_per_connection(_square(gradient), mask) for gradient, mask in pairs)
        if self.per in ("network", None):
            size = float(sum(mask.size for mask in masks))
            return {"network": sum(_total(square) for square in squares) / size}
        return {
            id(mask): _per_connection(
                ops.mean(square, _reduced_axes(mask, self.per), keepdims=True),
                mask,
                _reduced_axes(mask, self.per),
            )
            for square, mask in zip(squares, masks, strict=True)
        }

    def scales(
        self,
        mean_squares: Mapping[Any, Tensor],
        masks: Sequence[Mask],
        states: Mapping[Any, keras.Variable],
        step: Tensor,
    ) -> list[Tensor]:
        """What the mask gradients of one step are to be multiplied by.

        Args:
            mean_squares: The dict that `mean_squares(gradients, masks)` gave.
            masks: The same list.
            states: Dict of variables of the shapes `state_shapes(masks)`, updated in
                place.
            step: Number of mask updates made so far, a scalar tensor.

        Returns:
            List of tensors that broadcast to the shapes of the gradients.
        """
        if self.per is None:
            return [1.0] * len(masks)
        share = ops.maximum(1 - self.memory, 1 / (ops.cast(step, "float32") + 1))
        scales = {}
        for key, now in mean_squares.items():
            before = states[key] + 0
            # Of zero, as before the first step, there are no four times.
            typical = ops.where(before > 0, ops.minimum(now, _OUTLIER * before), now)
            mean = before + share * (typical - before)
            states[key].assign(mean)
            scales[key] = 1 / (ops.sqrt(ops.maximum(mean, now)) + _EPSILON)
        return [_per_connection(scales[self._key(mask)], mask) for mask in masks]

    def priced_connections(self, mask: Mask) -> int | np.ndarray:
        """How many connections' price an update of each mask variable holds.

        1 where updates are per connection, else the number that it switches.
        """
        if self.per is not None:
            return 1
        sizes = mask.sizes
        return sizes if isinstance(sizes, int) else sizes.astype("float32")

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return {"per": self.per, "memory": self.memory}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The normalization that `get_config` described."""
        return cls(**config)

    def __repr__(self):
        return f"GradientNormalization(per={self.per!r}, memory={self.memory})"


def _square(gradient):
    return ops.square(ops.cast(gradient, "float32"))


def _per_connection(x, mask, axes=()):
    """Divides by the number of connections a variable switches, its mean along axes."""
    if isinstance(mask.sizes, int):
        return x if mask.sizes == 1 else x / mask.sizes
    sizes = mask.sizes.astype("float32")
    if axes:
        sizes = np.broadcast_to(sizes, mask.variable.shape)
        sizes = np.mean(sizes, axis=axes, keepdims=True)
    return x / sizes


def _total(x):
    """Sum of a non-negative tensor of rank one or more."""
    # XLA adds up one number after the other on CPUs, but columns side by side: three
    # times as fast. The maximum keeps it from making one sum of the two again.
    columns = ops.sum(ops.reshape(x, (-1, x.shape[-1])), axis=0)
    return ops.sum(ops.maximum(columns, 0))


def _reduced_axes(mask, per):
    rank = len(mask.variable.shape)
    features = {axis % rank for axis in mask.feature_axes} if per == "feature" else ()
    if mask.switches_channels:
        features = ()
    return tuple(axis for axis in range(rank) if axis not in features)
