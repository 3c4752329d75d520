"""Effective sparsity in the logs of `fit`."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from scl_keras.connectivity import ConnectionGraph
from scl_keras.training.distiller import network_of
from scl_keras.types import Logs


class EffectiveSparsityLogger(keras.callbacks.Callback):
    """Writes how much is really connected into the epoch's logs.

    A connection is effective if it lies on a path from an input of the model to an
    output (Vysogorets & Kempe, arXiv 2107.02306); other connections that are kept are
    dead. The logs get `effective_density` (effective connections over all),
    `dead_connections`, `dead_features` (units and filters without an effective
    connection), and `effective_density/<layer>/<kernel>` of each kernel. Masks are
    read where a layer is masked, and zeros in the kernels where it isn't.

    Put it before the callbacks that shall see the figures, such as `CSVLogger`.
    Progress lines of a model with masks stay as short as they are. Each epoch costs
    about as much as a few training steps with a batch of one.

    Args:
        input_shapes: Shapes of the inputs without the batch axis, where the model
            leaves sizes open, see `ConnectionGraph`.

    Raises:
        ValueError: When training begins, if the model can't be followed, has nothing
            that could be masked, or has open sizes that `input_shapes` doesn't tell.

    Example:

    ```python
    history = model.fit(x, y, epochs=9, callbacks=[EffectiveSparsityLogger()])
    history.history["effective_density"]  # one number an epoch
    ```
    """

    def __init__(self, input_shapes: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.input_shapes = input_shapes

    def on_train_begin(self, logs: Logs = None) -> None:
        """Reads the model's graph."""
        self.graph = ConnectionGraph(network_of(self.model), self.input_shapes)
        if not self.graph.kernels:
            raise ValueError(
                "`EffectiveSparsityLogger` needs a model with layers that are masked "
                f"or could be. Received: {self.model!r}"
            )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds the figures to `logs`."""
        if logs is None:
            return
        kernels = self.graph.kernels
        kept = [kernel.kept() for kernel in kernels]
        effective = self.graph.effective(kept)
        pairs = list(zip(kernels, effective, strict=True))
        count, size = (sum(map(f, effective)) for f in (np.count_nonzero, np.size))
        logs["effective_density"] = count / size
        logs["dead_connections"] = sum(map(np.count_nonzero, kept)) - count
        logs["dead_features"] = sum(k.dead_features(mask) for k, mask in pairs)
        for kernel, mask in pairs:
            logs[f"effective_density/{kernel.label}"] = float(mask.mean())
