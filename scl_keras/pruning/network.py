"""What a pruning method sees of a model: its weights, masks and gradients."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from scl_keras import checks
from scl_keras.connectivity import ConnectionGraph
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.walking import is_graph
from scl_keras.pruning.data import batches_of, with_end
from scl_keras.pruning.gradients import LossGradients
from scl_keras.pruning.groups import admitted
from scl_keras.types import Arrays, Shape


class PrunableNetwork:
    """A model with fixed masks, as the methods see it.

    Args:
        model: A functional model with masked layers.
        data: As for `prune`; None for methods that need none.
        loss: Loss as for `keras.Model.compile`; None for methods that need no data.
        loss_weights: As for `keras.Model.compile`.
        input_shapes: See `scl_keras.connectivity.ConnectionGraph`.
        steps: As for `prune`.

    Attributes:
        model: The model.
        kernels: List of `scl_keras.graph.kernels.Kernel`, those with a mask.
        input_shapes: As given.

    Raises:
        ValueError: If the model isn't built, its masks switch more than single
            connections, or `data` or `steps` is something else.

    Example:

    ```python
    network = PrunableNetwork(sparsify(dense_model, ste=None))
    [weights.shape for weights in network.weights()]  # [(64, 32), (32, 10)]
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        data: Any = None,
        loss: Any = None,
        loss_weights: Any = None,
        input_shapes: Sequence[Any] | None = None,
        steps: int | None = None,
    ) -> None:
        checks.built_model("PrunableNetwork", model)
        self.model = model
        self.kernels = [k for k in prunable_kernels(model) if k.mask is not None]
        for kernel in self.kernels:
            if not kernel.mask.switches_connections:
                raise ValueError(
                    "Pruning methods score and cut connections one by one. Prune a "
                    'model whose masks have the granularity "connection" or `NM`. '
                    f"Received: '{kernel.label}' of granularity "
                    f"'{kernel.mask.granularity}'"
                )
        self.input_shapes = input_shapes
        self._data = data if data is None else with_end(data, steps)
        self._loss, self._loss_weights = loss, loss_weights

    @functools.cached_property
    def graph(self) -> ConnectionGraph:
        """The model's `ConnectionGraph`."""
        return ConnectionGraph(self.model, self.input_shapes)

    @functools.cached_property
    def _loss_gradients(self):
        variables = [getattr(kernel.layer, kernel.name) for kernel in self.kernels]
        return LossGradients(self.model, variables, self._loss, self._loss_weights)

    @property
    def has_known_sizes(self) -> bool:
        """Whether all sizes of the inputs are known, but for the batch's."""
        if not is_graph(self.model):
            return True
        shapes = [x.shape[1:] for x in self.model.inputs]
        return self.input_shapes is not None or not any(None in x for x in shapes)

    def effective(self, masks: Arrays) -> list[np.ndarray]:
        """Those connections that are on a path from the inputs to the outputs.

        Args:
            masks: List of boolean arrays, one a kernel.

        Returns:
            A list of boolean arrays.
        """
        return self.spread(masks)[0]

    def spread(self, masks: Arrays) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What `effective` gives, and what would be effective if it were kept.

        Args:
            masks: List of boolean arrays, one a kernel.

        Returns:
            A pair of lists of boolean arrays. The second are all connections, kept or
            not, that lead from what the inputs reach to what reaches an output.
        """
        kernels = self.graph.kernels
        given = iter(masks)
        kept = [k.kept() if k.mask is None else next(given) for k in kernels]
        found = self.graph.spread(kept)
        masked = [kernel.mask is not None for kernel in kernels]
        effective = list(itertools.compress(found.effective, masked))
        return effective, list(itertools.compress(found.usable, masked))

    @property
    def shapes(self) -> list[Shape]:
        """List of the kernels' shapes."""
        return [kernel.shape for kernel in self.kernels]

    @property
    def size(self) -> int:
        """Number of connections, kept or not."""
        return sum(kernel.mask.size for kernel in self.kernels)

    @property
    def capacity(self) -> int:
        """Number of connections that can be kept at most (see `NM`)."""
        return sum(kernel.mask.capacity for kernel in self.kernels)

    def admitted(self, scores: Arrays, candidates: Arrays) -> list[np.ndarray]:
        """The candidates that granularities admit: the best of each group (see `NM`).

        Args:
            scores: List of arrays, one a kernel.
            candidates: List of boolean arrays of what may be kept.

        Returns:
            A list of boolean arrays. Any part of these may be kept.
        """
        return [
            admitted(kernel.mask, values, allowed)
            for kernel, values, allowed in zip(
                self.kernels, scores, candidates, strict=True
            )
        ]

    def kept(self) -> list[np.ndarray]:
        """List of boolean arrays, one a kernel: the masks."""
        return [kernel.kept() for kernel in self.kernels]

    def keep(self, masks: Arrays) -> None:
        """Sets the masks: a list of boolean arrays, one a kernel."""
        for kernel, mask in zip(self.kernels, masks, strict=True):
            kernel.mask.assign(mask)

    def weights(self) -> list[np.ndarray]:
        """List of float64 arrays: the kernels, with zeros where connections are cut."""
        return [self._values(kernel) * kernel.kept() for kernel in self.kernels]

    def gradients(self) -> list[np.ndarray]:
        """Gradients of the loss by the kernels' values, a list of float64 arrays.

        They are averaged over all of the data, in training mode: batch normalization
        uses the batch's statistics. Those of cut connections are zero.

        Raises:
            ValueError: If data or loss are missing or don't fit the model, or a
                gradient isn't finite.
        """
        if self._data is None or self._loss is None:
            missing = "data" if self._data is None else "loss"
            raise ValueError(
                f"This method needs gradients of the loss: `{missing}` is missing. "
                "Give `data`, and `loss` unless the model is compiled with one."
            )
        found = self._loss_gradients(batches_of(self._data, self.model))
        for kernel, gradient in zip(self.kernels, found, strict=True):
            if not np.isfinite(gradient).all():
                raise ValueError(
                    f"The loss has no finite gradient by '{kernel.label}': are all of "
                    "`data` finite, and the targets valid for the loss?"
                )
        return found

    @staticmethod
    def _values(kernel):
        values = keras.ops.convert_to_numpy(getattr(kernel.layer, kernel.name))
        if not np.isfinite(values).all():
            raise ValueError(f"Kernel '{kernel.label}' has weights that aren't finite.")
        return values.astype("float64")
