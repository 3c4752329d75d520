"""Figures of masks, in all and layer by layer, in the logs of `fit`."""

import keras
from keras import ops

from scl_keras.graph.kernels import prunable_kernels
from scl_keras.masks.mask import find_masks
from scl_keras.training.distiller import network_of
from scl_keras.training.model import unscaled
from scl_keras.training.optimizer import SCLOptimizer
from scl_keras.training.reporting import figures
from scl_keras.types import Logs


class MaskLogger(keras.callbacks.Callback):
    """Writes what there is to say of the masks into the epoch's logs.

    Those of `fit` have `sparsity` alone. This adds the `density` (kept / all) and the
    `compression` (all / kept) of all masks, where they are learned `connection_loss`
    (`λ · Σ c · H(s)`), and each mask's density, as `density/<layer>/<kernel>`. Progress
    lines stay as short as they are.

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
        network = network_of(self.model)
        optimizer = unscaled(self.model.optimizer)
        if find_masks(network):
            learned = isinstance(optimizer, SCLOptimizer)
            logs.update(figures(network, optimizer if learned else None))
        for kernel in prunable_kernels(network):
            if kernel.mask is not None:
                count = int(ops.convert_to_numpy(kernel.mask.count()))
                logs[f"density/{kernel.label}"] = count / kernel.mask.size

    def on_train_end(self, logs: Logs = None) -> None:
        """Reports layers that are down to their last connection."""
        network = network_of(self.model)
        kernels = [k for k in prunable_kernels(network) if k.mask is not None]
        labels = [k.label for k in kernels if k.mask.is_down_to_last()]
        if labels:
            print("Down to their last connection: " + ", ".join(labels))
