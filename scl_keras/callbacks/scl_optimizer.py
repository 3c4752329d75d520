"""The optimizer of weights and masks of the model that a callback is given to."""

import keras

from scl_keras.training.loss_scaling import unscaled
from scl_keras.training.optimizer import SCLOptimizer


def scl_optimizer_of(callback):
    """The `SCLOptimizer` of the model that a callback was given.

    Raises:
        ValueError: If the model has none.
    """
    optimizer = unscaled(getattr(callback.model, "optimizer", None))
    if not isinstance(optimizer, SCLOptimizer):
        distils = isinstance(callback.model, keras.distillation.Distiller)
        raise ValueError(
            f"`{type(callback).__name__}` needs a compiled `SCLModel`: "
            + ("`scl_keras.Distiller` is" if distils else "`sparsify` makes")
            + f" one. Received: {callback.model!r}"
        )
    return optimizer
