"""Two optimizers that act as one: one for the weights, one for the masks."""

import warnings
from collections.abc import MutableMapping, Sequence
from typing import Any, Self

import keras

from scl_keras.backend.keras_private import averages_of
from scl_keras.masks.mask import split_masks
from scl_keras.types import Optimizer, Tensor


class PairedOptimizer(keras.optimizers.Optimizer):
    """Base of optimizers that update weights and masks with an optimizer each.

    To Keras it is one optimizer: its learning rate, iterations and loss scale are those
    of the weights' optimizer, its variables those of both and its own. A subclass gives
    `build` and `apply`.

    Args:
        optimizer: Optimizer of the weights, as for `keras.Model.compile`.
        mask_optimizer: Optimizer of the mask variables, likewise.
        name: Name of the optimizer.

    Raises:
        ValueError: If both are the same object, one is a pair itself, or the first one
            scales the loss.
    """

    def __init__(
        self, optimizer: Optimizer, mask_optimizer: Optimizer, name: str
    ) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.optimizer = keras.optimizers.get(optimizer)
        self.mask_optimizer = keras.optimizers.get(mask_optimizer)
        if self.mask_optimizer is self.optimizer:
            raise ValueError(
                "`optimizer` and `mask_optimizer` must be two objects. Received the "
                f"same one twice: {self.optimizer}"
            )
        if isinstance(self.optimizer, PairedOptimizer):
            raise ValueError(
                "The optimizer of the weights must be a stock one: this one moves "
                "masks already. Give `compile` the inner one alone. "
                f"Received: optimizer={self.optimizer}"
            )
        if isinstance(self.mask_optimizer, PairedOptimizer):
            raise ValueError(
                "The optimizer of the masks must be a stock one, which moves nothing "
                f"else. Received: mask_optimizer={self.mask_optimizer}"
            )
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "A loss-scaling optimizer has to scale the masks' gradients, too: use "
                "`LossScaleOptimizer(SCLOptimizer(optimizer, ...))`. "
                f"Received: optimizer={self.optimizer}"
            )

    def _own_variable(self, name, shape, dtype, initializer="zeros"):
        """A new variable beside those of both optimizers, alike on all replicas."""
        return self.add_variable(
            shape, initializer, dtype, aggregation="only_first_replica", name=name
        )

    def renewed(self) -> Self:
        """One of the same kind for other masks, with the same optimizer of weights."""
        new = type(self).from_config(self.get_config())
        new.optimizer = self.optimizer
        return new

    @property
    def _model_variables_moving_average(self):
        # `keras.callbacks.SwapEMAWeights` looks for it, in the order of the variables.
        averages = averages_of(self.optimizer) | averages_of(self.mask_optimizer)
        if not averages:
            raise AttributeError("Neither optimizer has `use_ema=True`.")
        # What has no average is exchanged with itself.
        return [
            averages[id(v)] if id(v) in averages else keras.Variable(v)
            for v in self._trainable_variables
        ]

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Scales the loss as the weights' optimizer wants it."""
        return self.optimizer.scale_loss(loss)

    @property
    def learning_rate(self) -> Any:
        """Learning rate of the weights' optimizer."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> keras.Variable:
        """Number of updates that the weights' optimizer has made."""
        return self.optimizer.iterations

    @property
    def own_iterations(self) -> keras.Variable:
        """How often `apply` was counted here: a variable."""
        return super().iterations

    @property
    def variables(self) -> list[keras.Variable]:
        """Own variables, then those of both optimizers."""
        both = self.optimizer.variables + self.mask_optimizer.variables
        return super().variables + both

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Lets both optimizers put their averages in place, if they keep any."""
        weights, masks = split_masks(var_list)
        self.optimizer.finalize_variable_values(weights)
        self.mask_optimizer.finalize_variable_values(masks)

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Saves its own variables: Keras visits the two optimizers by itself."""
        for i, variable in enumerate(super().variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Loads what `save_own_variables` saved."""
        variables = super().variables
        if len(store) != len(variables):
            # As in Keras: a model not trained yet may take weights alone from a file.
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}', because it "
                f"has {len(variables)} variables whereas the saved optimizer has "
                f"{len(store)}. It was not built yet, or made with another "
                "`normalization`.",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])
