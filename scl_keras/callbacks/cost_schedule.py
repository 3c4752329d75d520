"""A connection cost that changes over the epochs."""

from collections.abc import Callable

import keras

from scl_keras import checks
from scl_keras.callbacks.scl_optimizer import scl_optimizer_of
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
        ValueError: If `schedule` is no function; during `fit`, if it gives no finite
            number >= 0.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[ConnectionCostScheduler(ramp(0.2, 6))])
    ```
    """

    def __init__(
        self, schedule: Callable[[int, float], float], verbose: int = 0
    ) -> None:
        super().__init__()
        wanted = "a function `(epoch, connection_cost) -> connection_cost`, see `ramp`"
        self.schedule = checks.function("schedule", schedule, wanted)
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Sets the epoch's cost."""
        variable = scl_optimizer_of(self).connection_cost
        cost = self.schedule(epoch, float(variable.numpy()))
        where = f"schedule(epoch={epoch}, ...)"
        cost = checks.number(where, cost, "a finite number >= 0", lambda x: x >= 0)
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

    Raises:
        ValueError: If `connection_cost` is negative, `epochs` isn't at least 1, or one
            of the three is no finite number.

    Example:

    ```python
    [ramp(0.2, 4)(epoch) for epoch in range(5)]  # [0.05, 0.1, 0.15, 0.2, 0.2]
    ```
    """
    cost = checks.number(
        "connection_cost", connection_cost, "a finite number >= 0", lambda x: x >= 0
    )
    length = checks.number("epochs", epochs, "a number >= 1", lambda x: x >= 1)
    first = checks.number("begin", begin, "a finite number")

    def schedule(epoch, _=None):
        return cost * min(max(epoch - first + 1, 0) / length, 1.0)

    return schedule
