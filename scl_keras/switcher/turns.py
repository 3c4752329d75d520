"""Turns of whole epochs between a network and its switcher."""

import keras

from scl_keras import checks
from scl_keras.types import Logs


class TurnsByEpoch(keras.callbacks.Callback):
    """Has the weights and the switcher network take turns by epochs, not by steps.

    Args:
        task: Number of epochs in a row that train the weights, at least 1.
        switcher: Number of epochs in a row that train the switcher then, at least 1.

    Raises:
        ValueError: If a number is less than 1; when `fit` begins, if the model is no
            `SwitcherModel`.

    Example:

    ```python
    model = SwitcherModel(dense_model)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=9, callbacks=[TurnsByEpoch(task=2, switcher=1)])
    ```
    """

    def __init__(self, task: int = 1, switcher: int = 1) -> None:
        super().__init__()
        wanted = "a whole number of epochs, at least 1"
        self.task = checks.integer("task", task, wanted, least=1)
        self.switcher = checks.integer("switcher", switcher, wanted, least=1)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the model."""
        if not hasattr(getattr(self.model, "scl_optimizer", None), "turns"):
            raise ValueError(
                "`TurnsByEpoch` needs a compiled `SwitcherModel`. "
                f"Received: {self.model!r}"
            )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Gives the turn, by the epoch alone: a resumed run needs no memory."""
        tasks = epoch % (self.task + self.switcher) < self.task
        self.model.scl_optimizer.turns.assign([tasks, not tasks])

    def on_train_end(self, logs: Logs = None) -> None:
        """Goes back to turns of steps."""
        optimizer = self.model.scl_optimizer
        optimizer.turns.assign([optimizer.task_steps, optimizer.switcher_steps])
