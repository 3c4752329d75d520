"""The words that signatures are written with."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np

Tensor: TypeAlias = Any
"""A tensor of the backend that Keras runs on, or what it makes one of."""

Shape: TypeAlias = tuple[int, ...]
"""The shape of an array."""

Arrays: TypeAlias = Sequence[np.ndarray]
"""Arrays, one for each kernel or mask."""

Logs: TypeAlias = dict[str, Any] | None
"""What Keras hands to callbacks."""

Layers: TypeAlias = (
    keras.layers.Layer
    | type[keras.layers.Layer]
    | str
    | Callable[[keras.layers.Layer], bool]
    | Sequence[Any]
)
"""Which layers: one, a type, a name, a predicate, or a list of these."""

Initializer: TypeAlias = float | str | keras.initializers.Initializer
"""An initializer, a number for a constant one, or a name."""

Optimizer: TypeAlias = str | dict[str, Any] | keras.optimizers.Optimizer
"""An optimizer as `keras.Model.compile` takes it."""


class Quotas(Protocol):
    """What tells how much each kernel keeps: `scl_keras.pruning.Uniform` and such."""

    def densities(
        self, shapes: Sequence[Shape], density: float
    ) -> Sequence[float] | np.ndarray:
        """Shares to keep, one a kernel."""


class Schedule(Protocol):
    """What tells how sparse a step is: `scl_keras.pruning.PolynomialDecay` and such."""

    def __call__(self, step: int) -> float:
        """The sparsity at a step."""

    def is_due(self, step: int) -> bool:
        """Whether masks are updated at a step."""
