"""What the masks of a model add to the logs of its training, and what a line shows."""

import inspect

import keras
from keras import ops

from scl_keras.masks.mask import find_masks

_SKIPPED = "skipped_updates"
FIGURES = ("connection_loss", "density", "compression")
"""What `MaskLogger` adds for the model, besides the densities of its kernels."""
_EFFECTIVE = ("effective_density", "dead_connections", "dead_features")
"""What `EffectiveSparsityLogger` adds for the model, likewise."""
_PER_KERNEL = ("density/", "effective_density/")


def step_logs(model, optimizer):
    """The figures of a training step: a dict of scalar tensors.

    Args:
        model: A model with masks, or without: then there are none.
        optimizer: Its `SCLOptimizer`.
    """
    masks = find_masks(model)
    if not masks:
        return {}
    size = float(sum(mask.size for mask in masks))
    counts = {
        id(mask): mask.still_count if mask.is_still else mask.count() for mask in masks
    }
    # Whole numbers first: 1 - kept / size would round away what little is cut.
    cut = sum(mask.size - counts[id(mask)] for mask in masks)
    logs = {"sparsity": ops.cast(cut, "float32") / size}
    if optimizer.cost == "macs":
        work = [mask.positions or 0 for mask in masks]
        total = sum(w * float(m.size) for w, m in zip(work, masks, strict=True))
        kept = sum(
            w * ops.cast(counts[id(m)], "float32")
            for w, m in zip(work, masks, strict=True)
        )
        logs["macs_sparsity"] = 1 - kept / max(total, 1.0)
    logs[_SKIPPED] = optimizer.skipped_updates + 0
    return logs


def figures(model, optimizer=None):
    """What the masks of a model are like now, in all the words there are for it.

    Args:
        model: A model with masks.
        optimizer: Its `SCLOptimizer`, or None to do without the cost.

    Returns:
        Dict of floats: `sparsity` and `FIGURES`.
    """
    masks = find_masks(model)
    kept = sum(int(ops.convert_to_numpy(mask.count())) for mask in masks)
    size = sum(mask.size for mask in masks)
    found = {
        "sparsity": 1 - kept / size,
        "density": kept / size,
        "compression": size / max(kept, 1),
    }
    if optimizer is not None:
        cost = ops.convert_to_numpy(optimizer.connection_loss())
        found["connection_loss"] = float(cost)
    return found


class ShortLines(keras.callbacks.Callback):
    """Leaves in the logs what a progress line is to show.

    It stands behind the callbacks of the user and `History`, and before the progress
    bar, which Keras puts last: what it drops all others have seen.
    """

    async_safe = True  # Keras need not wait for each batch because of it

    def on_train_batch_end(self, batch, logs=None):
        """Drops what isn't for the line."""
        self._shorten(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Drops what isn't for the line."""
        self._shorten(logs)

    @staticmethod
    def _shorten(logs):
        for key in list(logs or ()):
            asked_for = key in FIGURES + _EFFECTIVE or key.startswith(_PER_KERNEL)
            if asked_for or (key == _SKIPPED and not logs[key]):
                del logs[key]


def fit_with_hooks(fit, args, kwargs, behind=()):
    """Calls `fit` with short progress lines, and tells callbacks of its begin and end.

    Callbacks may have two more methods: `before_fit(callbacks, arguments)` is given all
    those of the user in a list and the arguments of `fit` by name, and `after_fit()`
    comes when all `on_train_end` have been.

    Args:
        fit: The `fit` of a Keras model, or of a class of the user's.
        args: Its arguments.
        kwargs: Its keyword arguments.
        behind: Callbacks to put behind those of the user.

    Returns:
        What it returns.
    """
    signature = inspect.signature(fit)
    if "callbacks" in signature.parameters:
        kwargs = {**signature.bind_partial(*args).arguments, **kwargs}
        args = ()
    given = kwargs.get("callbacks")
    if isinstance(given, keras.callbacks.CallbackList):
        callbacks = list(given.callbacks)  # with a progress bar of its own
    else:
        callbacks = [] if given is None else keras.tree.flatten(given)
        history = [x for x in callbacks if isinstance(x, keras.callbacks.History)]
        added = [*behind, *([] if history else [keras.callbacks.History()])]
        if len(args) < _POSITION_OF_CALLBACKS:
            bar = kwargs.get("verbose", "auto") not in (0, "0")
            added += [ShortLines()] if bar else []
            kwargs = {**kwargs, "callbacks": [*callbacks, *added]}
    for callback in callbacks:
        if hasattr(callback, "before_fit"):
            callback.before_fit(callbacks, kwargs)
    result = fit(*args, **kwargs)
    for callback in callbacks:
        if hasattr(callback, "after_fit"):
            callback.after_fit()
    return result


_POSITION_OF_CALLBACKS = 6
