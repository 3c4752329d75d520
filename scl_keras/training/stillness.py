"""A training step without what moves masks, for the time that all of them are frozen.

Whether a mask is frozen is a variable: a step that was built reads it, and computes the
masks' gradients whatever it says. So the step is built anew when an epoch begins
with all masks frozen, and again when they aren't any more. Weights are updated by the
same numbers as otherwise.
"""

import contextlib
from collections.abc import Iterator

import keras

from scl_keras import backend
from scl_keras.masks.freezing import all_frozen
from scl_keras.masks.mask import split_masks
from scl_keras.types import Logs


class StillMasks(keras.callbacks.Callback):
    """Has masks that are frozen when an epoch begins be constants of the step.

    It stands behind the callbacks of the user, which freeze and thaw masks. Who thaws
    them in the midst of an epoch sees them move from the next one on.
    """

    async_safe = True  # Keras need not wait for each batch because of it

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Looks at the masks."""
        masks = _learned(self.model)
        still = bool(masks) and self.model.scl_optimizer.may_leave_out_masks
        if still:
            backend.synchronize(self.model)
            still = all_frozen(masks)
        counts = [_count(mask) if still else None for mask in masks]
        # Others than before where they move again, or a callback has changed them.
        if counts != [mask.still_count for mask in masks]:
            for mask, count in zip(masks, counts, strict=True):
                mask.still_count = count
            self.model.make_train_function(force=True)


@contextlib.contextmanager
def moving_afterwards(model: keras.Model) -> Iterator[None]:
    """Leaves masks to what their variables say, however `fit` ends."""
    try:
        yield
    finally:
        masks = [mask for mask in _learned(model) if mask.is_still]
        for mask in masks:
            mask.still_count = None
        if masks:
            model.train_function = None  # it is built anew when it is needed


def _count(mask):
    return int(keras.ops.convert_to_numpy(mask.count()))


def _learned(model):
    """The masks that the model's optimizer is given."""
    _, variables = split_masks(model.trainable_variables)
    return [variable.connection_mask for variable in variables]
