"""Any Keras callback, for what comes after the target alone."""

import warnings
from typing import Any

import keras

from scl_keras.callbacks.cost_schedule import ConnectionCostScheduler
from scl_keras.callbacks.fit_listener import FitListener
from scl_keras.callbacks.freeze_masks import FreezeMasks
from scl_keras.masks.freezing import are_frozen
from scl_keras.types import Logs

_OF_ALL_EPOCHS = (FitListener, FreezeMasks, ConnectionCostScheduler)


class AfterTarget(keras.callbacks.Callback):
    """Makes a callback look only at epochs in which all masks are frozen.

    A loss or accuracy is best before connections go. So a callback that keeps the best
    weights, stops training or changes the learning rate should begin only when the
    sparsity is reached: with the first epoch that is trained and validated with the
    masks that `TargetSparsity`, `FreezeMasks` or `GradualPruning` ends with. The order
    of the callbacks doesn't matter.

    Args:
        callback: The callback. It is told of the beginning and end of training, and of
            all epochs and batches after the target; in `evaluate`, if masks are frozen.

    Raises:
        ValueError: If it isn't a Keras callback, or if it leads masks to the target or
            backs up the way there.

    Example:

    ```python
    best = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    callbacks = [TargetSparsity(0.9), AfterTarget(best)]
    model.fit(x, y, epochs=9, callbacks=callbacks)
    ```
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        super().__init__()
        if not isinstance(callback, keras.callbacks.Callback):
            raise ValueError(
                "`AfterTarget` takes one Keras callback. "
                f"Received: callback={callback!r}"
            )
        if isinstance(callback, _OF_ALL_EPOCHS):
            kind = type(callback).__name__
            raise ValueError(
                f"`{kind}` has its work before the target, and would do nothing after "
                "it: give it to `fit` as it is, beside `AfterTarget`. "
                f"Received: callback={callback!r}"
            )
        self.callback = callback
        self._trains = self._sees = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Hands them on."""
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Hands it on."""
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Hands it on."""
        self._trains, self._sees, self._has_seen = True, False, False
        self._begun: int | None = None
        self.callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Waits for the first batch, when all callbacks have done what they do here."""
        self._begun, self._sees = epoch, False

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if self._begun is not None:
            epoch, self._begun = self._begun, None
            self._sees = are_frozen(self.model)
            if self._sees:
                self._has_seen = True
                self.callback.on_epoch_begin(epoch)
        if self._sees:
            self.callback.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if self._sees:
            self.callback.on_train_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if not self._trains:  # but evaluates
            self._sees = are_frozen(self.model)
        if self._sees:
            self.callback.on_test_begin(logs)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if self._sees:
            self.callback.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if self._sees:
            self.callback.on_test_batch_end(batch, logs)

    def on_test_end(self, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if self._sees:
            self.callback.on_test_end(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Hands it on after the target."""
        if self._sees:
            self.callback.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Logs = None) -> None:
        """Hands it on, and warns if the target never came."""
        self._trains = self._sees = False
        self.callback.on_train_end(logs)
        if not self._has_seen:
            warnings.warn(
                f"`{type(self.callback).__name__}` has seen no epoch, since no epoch "
                "began with all masks frozen: leave some after the target "
                "(`TargetSparsity(by_epoch=...)`), or freeze masks with `FreezeMasks`.",
                stacklevel=2,
            )


def warn_of_best_only(callbacks):
    """Warns of callbacks that may save a model from before a target.

    Args:
        callbacks: List of the callbacks that stand beside the one with the target.
    """
    for callback in callbacks:
        if getattr(callback, "save_best_only", False):
            kind = type(callback).__name__
            warnings.warn(
                f"`{kind}(save_best_only=True)` may keep a model from before the "
                "target, since a loss is best before connections go. "
                f"`AfterTarget({kind}(...))` looks only at what comes after.",
                stacklevel=3,
            )
