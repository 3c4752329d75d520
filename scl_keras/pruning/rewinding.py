"""Rewinding of weights, for lottery tickets."""

import keras
import numpy as np

from scl_keras import backend, checks
from scl_keras.masks.mask import split_masks
from scl_keras.types import Logs


class WeightRewinding(keras.callbacks.Callback):
    """Stores a model's weights at a step of its training, to put them back later.

    A lottery ticket is what a trained network is pruned to, with the weights that it
    had at the start (Frankle & Carbin, *The Lottery Ticket Hypothesis*, arXiv
    1803.03635) or after a few steps (Frankle et al., arXiv 1912.05671).

    Args:
        step: Number of updates of the weights after which they are stored, counted by
            `optimizer.iterations`.

    Attributes:
        weights: List of arrays, or None as long as the step hasn't come: all of the
            model's weights, with moving averages and without masks.

    Raises:
        ValueError: If `step` is no whole number from 0 on; at the start of `fit`, if it
            has passed.

    Example:

    ```python
    rewinding = WeightRewinding(step=0)
    model.fit(x, y, epochs=5, callbacks=[rewinding])
    ticket = rewinding.rewind(prune(model, "magnitude", 0.9))
    ticket.compile("adam", "mse")
    ticket.fit(x, y, epochs=5)
    ```
    """

    def __init__(self, step: int = 0) -> None:
        super().__init__()
        self.step = checks.integer("step", step, "a whole number >= 0", least=0)
        self.weights = None

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Stores the weights if it is the step, before it is made."""
        self._look()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Stores the weights if the next step is the one."""
        self._look()

    def _look(self):
        if self.weights is not None:
            return
        backend.synchronize(self.model)
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if step > self.step:
            raise ValueError(
                f"`WeightRewinding` can't store the weights of step {self.step}: the "
                f"model is at step {step}. Give a later one, or with "
                "`steps_per_execution` a multiple of it."
            )
        if step == self.step:
            weights, _ = split_masks(self.model.weights)
            self.weights = [np.array(keras.ops.convert_to_numpy(w)) for w in weights]

    def rewind(self, model: keras.Model) -> keras.Model:
        """Puts the stored weights into a model; its masks stay.

        Args:
            model: The model that was trained, or one made from it, as by `prune`.

        Returns:
            The same model.

        Raises:
            ValueError: If no weights are stored, or the model has other ones.
        """
        if self.weights is None:
            raise ValueError(
                f"No weights are stored: no training came to step {self.step} with this"
                " callback."
            )
        if not isinstance(model, keras.Model):
            raise checks.refusal("model", model, "a Keras model")
        weights, _ = split_masks(model.weights)
        shapes = [tuple(w.shape) for w in weights]
        if shapes != [w.shape for w in self.weights]:
            raise ValueError(
                f"Model '{model.name}' has weights of other shapes than those stored. "
                f"Received: {shapes}, stored: {[w.shape for w in self.weights]}"
            )
        for weight, value in zip(weights, self.weights, strict=True):
            weight.assign(value)
        return model
