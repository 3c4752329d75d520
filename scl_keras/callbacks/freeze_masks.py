"""Fine-tuning of the connections that are left."""

import keras

from scl_keras import checks
from scl_keras.callbacks.scl_optimizer import scl_optimizer_of
from scl_keras.masks.freezing import freeze_masks
from scl_keras.types import Logs


class FreezeMasks(keras.callbacks.Callback):
    """Freezes the masks at an epoch. From then on only weights are trained.

    While masks learn, they flip connections on and off. The last part of a training
    should belong to the weights alone. `TargetSparsity` freezes masks by itself. Masks
    stay frozen in a later `fit`, until `thaw_masks`.

    Args:
        epoch: First epoch, counted from 0, that is trained with frozen masks.

    Raises:
        ValueError: If `epoch` isn't such a number. When `fit` begins: if the model
            isn't compiled with masks that learn.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[FreezeMasks(epoch=6)])
    ```
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = checks.integer("epoch", epoch, "a whole number >= 0", least=0)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the model."""
        scl_optimizer_of(self)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Freezes, by the epoch alone: a resumed run needs no memory."""
        if epoch >= self.epoch:
            freeze_masks(self.model)
