"""A connection cost that changes over the epochs."""

import math
from collections.abc import Callable

import keras

from scl_keras.training.model import scl_optimizer_of
from scl_keras.training.prices import is_connection_cost
from scl_keras.types import Logs


class ConnectionCostScheduler(keras.callbacks.Callback):
    """Sets the connection cost at the beginning of every epoch.

    The twin of `keras.callbacks.LearningRateScheduler`. The cost is a variable of the
    optimizer, saved with the model, so that a resumed run goes on with it.

    Args:
        schedule: Function `(epoch, connection_cost) -> connection_cost`, with the epoch
            counted from 0 and the cost as it stands.
        verbose: 1 to print each change, 0 not to.

    Raises:
        ValueError: During `fit`, if the schedule gives no finite number >= 0.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[ConnectionCostScheduler(ramp(0.2, 6))])
    ```
    """

    def __init__(
        self, schedule: Callable[[int, float], float], verbose: int = 0
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Sets the epoch's cost."""
        variable = scl_optimizer_of(self).connection_cost
        cost = self.schedule(epoch, float(variable.numpy()))
        if not is_connection_cost(cost):
            raise ValueError(
                "The schedule of a `ConnectionCostScheduler` must return a finite "
                f"number >= 0. Received for epoch {epoch}: {cost!r}"
            )
        variable.assign(cost)
        if self.verbose:
            print(f"Epoch {epoch + 1}: connection cost {cost:.4g}.")


def ramp(connection_cost: float, epochs: int, begin: int = 0) -> Callable[..., float]:
    """A schedule that rises linearly to a connection cost, and stays there.

    Args:
        connection_cost: The cost it rises to.
        epochs: Number of epochs that the rise takes.
        begin: First epoch of the rise; the cost is 0 before.

    Returns:
        A function for `ConnectionCostScheduler`.

    Example:

    ```python
    [ramp(0.2, 4)(epoch) for epoch in range(5)]  # [0.05, 0.1, 0.15, 0.2, 0.2]
    ```
    """
    if not (1 <= epochs < math.inf and is_connection_cost(connection_cost)):
        raise ValueError(
            "`ramp` needs finite epochs >= 1 and connection_cost >= 0. Received: "
            f"epochs={epochs!r}, connection_cost={connection_cost!r}"
        )

    def schedule(epoch, _=None):
        return connection_cost * min(max(epoch - begin + 1, 0) / epochs, 1.0)

    return schedule
