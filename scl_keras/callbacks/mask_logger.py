"""Per-layer figures in the logs of `fit`."""

import keras
from keras import ops

from scl_keras.graph.kernels import prunable_kernels
from scl_keras.types import Logs


class MaskLogger(keras.callbacks.Callback):
    """Writes each mask's density into the epoch's logs, as `density/<layer>/<kernel>`.

    Put it before the callbacks that shall see the figures: `CSVLogger`, `TensorBoard`,
    and `History`, which `plotting.plot_densities` reads, all take them from the logs.
    At the end of training it names the layers that are down to their last connection.

    Example:

    ```python
    callbacks = [MaskLogger(), keras.callbacks.CSVLogger("densities.csv")]
    history = model.fit(x, y, epochs=9, callbacks=callbacks)
    history.history["density/dense_1/kernel"]  # one number an epoch
    ```
    """

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds the densities to `logs`."""
        if logs is None:
            return
        for kernel in prunable_kernels(self.model):
            if kernel.mask is not None:
                count = int(ops.convert_to_numpy(kernel.mask.count()))
                logs[f"density/{kernel.label}"] = count / kernel.mask.size

    def on_train_end(self, logs: Logs = None) -> None:
        """Reports layers that are down to their last connection."""
        kernels = [k for k in prunable_kernels(self.model) if k.mask is not None]
        labels = [k.label for k in kernels if k.mask.is_down_to_last()]
        if labels:
            print("Down to their last connection: " + ", ".join(labels))
