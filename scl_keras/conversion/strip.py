"""Masks taken out of a model: for good, for a while, or exchanged for fixed ones."""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras

from scl_keras import backend
from scl_keras.backend.keras_private import (
    track_parameters,
    use_first_quantize,
    use_own_quantize,
)
from scl_keras.conversion.copying import copy_model
from scl_keras.conversion.masked_model import is_masked
from scl_keras.graph.walking import walk_inside
from scl_keras.layers.followers import ChannelFollower
from scl_keras.layers.in_place import replace_masks, take_masks
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.masks.mask import find_masks
from scl_keras.training.loss_scaling import scaled_like
from scl_keras.training.model import SCLModel
from scl_keras.training.pair import PairedOptimizer


def strip_masks(model: keras.Model, *, copy: bool = False) -> keras.Model:
    """Takes the masks out of a model, in place: the reverse of `sparsify`.

    Kernels become `v * H(s)`, with zeros where connections are cut. The model and its
    layers have their own classes again. The model computes the same as before, and
    neither it nor its file needs this package any more. A compiled model stays
    compiled, with the optimizer of its weights.

    Args:
        model: A Keras model with masked layers, trained or not. One without is
            returned as it is.
        copy: Whether to leave the model as it is, and strip an independent copy, which
            isn't compiled. To have a model without its masks for a moment, for example
            during training, see `stripped`.

    Returns:
        The same model, or the copy.

    Raises:
        ValueError: If it isn't a Keras model, or has a layer of a class derived from a
            masked layer; with `copy=True`, if Keras can't copy it.

    Example:

    ```python
    strip_masks(model).save("stock.keras")
    ```
    """
    _check_can_strip(model)
    if copy:
        model = copy_model(model)
    _take_out(model)
    forget_compiled(model)
    return model


@contextlib.contextmanager
def stripped(model: keras.Model) -> Iterator[keras.Model]:
    """Takes the masks out of a model for a while: a context manager.

    Inside the `with` block, the model is the stock model that `strip_masks` makes.
    Afterwards it is what it was, with the same masks, values of cut connections and
    optimizer, so training continues as if nothing had happened.

    Args:
        model: A Keras model with masked layers, or without: then nothing happens.

    Yields:
        The model.

    Raises:
        ValueError: As `strip_masks`.

    Example:

    ```python
    with stripped(model) as stock:
        stock.save("stock.keras")
    ```
    """
    _check_can_strip(model)
    backend.synchronize(model)
    compiled = forget_compiled(model)
    undo = _take_out(model)
    try:
        yield model
    finally:
        undo.restore()
        for inner, functions in compiled:
            vars(inner).update(functions)


def fix_masks(model: keras.Model, *, copy: bool = False) -> keras.Model:
    """Makes masks that training doesn't change of a model's masks, in place.

    They are those that it has now. The new ones are no trainable variables, whatever
    the model is compiled with, also when it is saved and loaded.

    Args:
        model: A Keras model with masked layers.
        copy: Whether to leave the model as it is, and fix those of an independent copy,
            which isn't compiled.

    Returns:
        The same model, or the copy. A compiled model stays compiled.

    Raises:
        ValueError: If the model has no masked layer; with `copy=True`, if Keras can't
            copy it.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[TargetSparsity(0.98)])
    ticket = fix_masks(model)
    ```
    """
    if not isinstance(model, keras.Model) or not find_masks(model):
        raise ValueError(
            "`fix_masks` needs a model with masked layers: `sparsify(model, ste=None)` "
            "puts fixed masks into a stock one. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if copy:
        model = copy_model(model)
    with backend.variables_scope(model):
        for layer in walk_inside(model):
            if isinstance(layer, MaskedLayer) and layer.ste is not None:
                settings = dataclasses.replace(layer.mask_settings, ste=None)
                replace_masks(layer, settings)
    _track_parameters(model)
    renew_optimizer(model)
    forget_compiled(model)
    return model


@dataclasses.dataclass(frozen=True)
class _Undo:
    """What a model has to be given back to be the masked model that it was."""

    model: keras.Model
    layers: list  # of `TakenMasks`
    models: list  # of triples of a model, its class and the runtime it was made for
    optimizers: list  # of pairs of a model and its optimizer

    def restore(self):
        for taken in reversed(self.layers):
            taken.restore()
        for model, masked_class, runtime in self.models:
            model.__class__ = masked_class
            use_own_quantize(model)
            model.masks_runtime = runtime
        for model, optimizer in self.optimizers:
            model.optimizer = optimizer
        _track_parameters(self.model)


def _take_out(model):
    layers, models, optimizers = [], [], []
    inside = walk_inside(model)
    # Followers first: they read the masks of the layers before them.
    for kind in (ChannelFollower, MaskedLayer):
        layers += [take_masks(layer) for layer in inside if isinstance(layer, kind)]
    for inner in inside:
        if not isinstance(inner, SCLModel):
            continue
        if inner.compiled:
            optimizers.append((inner, inner.optimizer))
            inner.optimizer = _of_weights(inner.optimizer)
        models.append((inner, type(inner), vars(inner).pop("masks_runtime", None)))
        while "stock_class" in vars(type(inner)):
            inner.__class__ = inner.stock_class
        use_first_quantize(inner)
    _track_parameters(model)
    return _Undo(model, layers, models, optimizers)


def _track_parameters(model):
    for layer in walk_inside(model):
        track_parameters(layer)


def _of_weights(optimizer):
    """The optimizer of the weights alone, with the loss scaling around both."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = optimizer.inner_optimizer
        return scaled_like(optimizer, _of_weights(inner))
    return optimizer.optimizer if isinstance(optimizer, PairedOptimizer) else optimizer


def renew_optimizer(model):
    """Gives a compiled model an optimizer for the masks that it has now.

    The optimizer of the weights stays, with what it has learned of their gradients.
    """
    if not (isinstance(model, SCLModel) and model.compiled):
        return
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        both = optimizer.inner_optimizer
        model.optimizer = scaled_like(optimizer, both.renewed())
    elif isinstance(optimizer, PairedOptimizer):
        model.optimizer = optimizer.renewed()


_FUNCTIONS = (
    *("train_function", "test_function", "predict_function"),
    "generate_function",  # of KerasHub
)


def forget_compiled(model):
    """Has a model and those inside of it compile their functions anew.

    They were compiled for the classes that layers had before.

    Returns:
        A list of pairs of a model and a dict of the functions that it had.
    """
    forgotten = []
    for inner in walk_inside(model):
        if isinstance(inner, keras.Model):
            functions = {k: vars(inner)[k] for k in _FUNCTIONS if k in vars(inner)}
            vars(inner).update(dict.fromkeys(functions))
            forgotten.append((inner, functions))
    return forgotten


def _check_can_strip(model):
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`strip_masks` takes a Keras model. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if not can_be_stripped(model):
        layers = [x for x in walk_inside(model) if is_masked(x) and not _has_stock(x)]
        raise ValueError(
            "`strip_masks` doesn't know the stock layer of a subclass of a masked "
            "layer. Subclass the stock layer, and give it a masked twin (see "
            f"`MaskedLayer`). Received: {layers[0]!r}"
        )


def can_be_stripped(model):
    """Whether it is known for each masked layer of a model what its stock layer is."""
    return all(_has_stock(x) for x in walk_inside(model) if is_masked(x))


def _has_stock(layer):
    return "stock_class" in vars(type(layer))
