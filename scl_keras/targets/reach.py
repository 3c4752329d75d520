"""How small, or how fast, the file of a model can become at all."""

from collections.abc import Sequence

import keras

from scl_keras import backend
from scl_keras.callbacks.budget import Budget
from scl_keras.callbacks.file_budget import FileBudget
from scl_keras.conversion.copying import copy_model
from scl_keras.conversion.sparsify import sparsify
from scl_keras.conversion.strip import strip_masks
from scl_keras.targets.limits import Limit


def refusals(
    model: keras.Model, runtime: str, limits: Sequence[Limit], dtype: str
) -> list[str]:
    """Why files that were asked for can't be had: a text for each of these.

    Args:
        model: A model, masked or not, which stays as it is.
        runtime: What masks are made for, see `check_target`.
        limits: What files may cost.
        dtype: Their coarsest precision.

    Raises:
        RuntimeError: If Keras runs on another backend than TensorFlow.
    """
    backend.check_can_export()
    copy = strip_masks(copy_model(model))
    masked = sparsify(copy, runtime=runtime, verbose=0)
    budget = Budget(masked, "connections", "masks")
    found = []
    for limit in limits:
        file = FileBudget.of(masked, budget, limit, dtype, None)
        found.append(limit.refusal(file.least()))
    return [text for text in found if text is not None]
