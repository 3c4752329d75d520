"""Masks that stay as they are while weights are trained, and that learn again."""

import keras
from keras import ops

from scl_keras.masks.mask import find_masks


def freeze_masks(model: keras.layers.Layer) -> None:
    """Has training leave the masks of a model or layer as they are.

    Weights are trained on. That the masks are frozen is kept with them: `compile`, a
    file and a second `fit` don't change it. `TargetSparsity` and `FreezeMasks` freeze
    masks, too. Other than with `fix_masks`, they can learn again: see `thaw_masks`.

    Args:
        model: A Keras model or layer with masks.

    Raises:
        ValueError: If it has no masks.

    Example:

    ```python
    freeze_masks(model)
    model.fit(x, y)  # trains weights alone
    ```
    """
    for mask in _masks_of(model, "freeze_masks"):
        mask.frozen.assign(True)


def thaw_masks(model: keras.layers.Layer) -> None:
    """Lets the frozen masks of a model or layer learn again: see `freeze_masks`.

    `TargetSparsity` does so by itself when it asks for another sparsity. Fixed masks,
    made with `ste=None`, don't learn, and stay as they are.

    Args:
        model: A Keras model or layer with masks.

    Raises:
        ValueError: If it has no masks.

    Example:

    ```python
    model.fit(x, y, epochs=3, callbacks=[TargetSparsity(0.9)])
    thaw_masks(model)
    model.fit(x, y)  # connections come and go again
    ```
    """
    for mask in _masks_of(model, "thaw_masks"):
        if mask.is_learned:
            mask.frozen.assign(False)


def are_frozen(model):
    """Whether a model has masks and none of them moves: a bool.

    Those of layers with `trainable=False` don't, whether they are frozen or not.
    """
    masks = find_masks(model)
    trained = {id(variable) for variable in model.trainable_variables}
    may_move = [m for m in masks if not m.is_learned or id(m.variable) in trained]
    return bool(masks) and all_frozen(may_move)


def all_frozen(masks):
    """Whether none of these masks moves: a bool."""
    return all(bool(ops.convert_to_numpy(mask.frozen)) for mask in masks)


def _masks_of(model, function):
    masks = find_masks(model)
    if not masks:
        raise ValueError(
            f"`{function}` needs a model or layer with masks: `sparsify` puts them in. "
            f"Received: {model!r}"
        )
    return masks
