"""Masks for the layers of any Keras model, put in as it is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from scl_keras import backend
from scl_keras.conversion.choices import chosen_layers, granularities_of
from scl_keras.conversion.copying import copy_model
from scl_keras.conversion.coverage import coverage_of, is_masked_kernel, kernels_of
from scl_keras.conversion.masked_model import as_masked_model
from scl_keras.conversion.strip import forget_compiled, renew_optimizer
from scl_keras.graph.walking import is_graph, is_rewired, walk_inside
from scl_keras.layers.followers import FOLLOWERS, chains
from scl_keras.layers.in_place import follow_channels, kernel_variables, put_masks
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.twins import has_kernels, masked_class_of, own_kernels
from scl_keras.masks.granularity import Channel, Granularity
from scl_keras.masks.mask import find_masks
from scl_keras.masks.settings import DEFAULT_MASK_INITIALIZER, MaskSettings
from scl_keras.masks.ste import STE
from scl_keras.targets.check import granularity_for
from scl_keras.training.model import SCLModel
from scl_keras.types import Initializer, Layers


def sparsify(
    model: keras.Model,
    layers: Layers | None = None,
    *,
    mask_initializer: Initializer = DEFAULT_MASK_INITIALIZER,
    ste: str | STE | None = "identity",
    granularity: str
    | Granularity
    | Mapping[Any, Any]
    | Callable[[keras.layers.Layer], Any]
    | None = None,
    runtime: str | None = None,
    mask_dtype: str = "float32",
    copy: bool = False,
    verbose: int = 1,
) -> SCLModel:
    """Puts masks into a model, in place: it becomes an `SCLModel` of its own class.

    Any built Keras model will do: functional, Sequential or subclassed, with layers
    inside of custom layers, wrappers, lists and dicts. Nothing is made anew. The chosen
    layers, and the model, change their class to a masked version of it, so that all
    stays that they have and do: weights, names, `trainable` flags, methods, a
    `train_step` of their own. A compiled model stays compiled, its optimizer being that
    of the weights; `compile` tells how masks are learned. `strip_masks` is the reverse.

    Layers that have masks already keep them. What can't be masked is told in a line;
    `unmasked_layers` lists it, too.

    Args:
        model: A built Keras model.
        layers: Which layers to mask: a layer, a layer type, a layer's name, a predicate
            `layer -> bool`, or a list of these. A nested model or a wrapper stands for
            all of its layers. Layers that a layer makes for itself (an `LSTM` its cell,
            attention its projections) go with it. By default all that can be.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`; None for fixed
            masks, which training doesn't change (see `prune` and `GradualPruning`).
        granularity: What one mask variable switches: `"connection"`, `"channel"` (whole
            units and filters, those of the model's outputs too) or a `Granularity` such
            as `Block(4)`. For each layer another one: a dict by the names or types of
            layers (`"connection"` for the rest), or a function of the layer that holds
            the kernel, in both of which None leaves a layer without masks. By default
            `"connection"`.
        runtime: Instead: what the model shall run on, such as `"compact"` or
            `"tflite-dense"`. Each layer gets the granularity that makes it faster
            there, or no masks; the choice is printed. See `check_target`.
        mask_dtype: Dtype of the mask variables: `"float32"`, or `"bfloat16"`, which
            halves the memory of them and of their gradients.
        copy: Whether to leave the model as it is, and mask an independent copy, which
            isn't compiled.
        verbose: 1 to tell in a line what has no masks, and why; 0 not to.

    Returns:
        The same model, now an `SCLModel`, or the copy.

    Raises:
        ValueError: If the model isn't built, if `layers` or `granularity` has a layer
            that isn't in it or can't be masked, if a kernel can't have the granularity
            asked for, if no layer gains on `runtime`, if another argument is something
            else, or, with `copy=True`, if Keras can't copy the model.

    Example:

    ```python
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    sparsify(model)
    model.compile("adam", "mse")
    in_blocks = sparsify(dense_model, granularity={keras.layers.Dense: Block(4)})
    ```
    """
    settings = MaskSettings(mask_initializer, ste, mask_dtype=mask_dtype)
    check_built(model, "sparsify")
    if ste is None and any(mask.is_learned for mask in find_masks(model)):
        raise ValueError(
            f"Model '{model.name}' has learned masks already, and `sparsify` leaves "
            "masked layers as they are. `fix_masks(model)` fixes its masks. Received: "
            "ste=None"
        )
    if runtime is not None and granularity is not None:
        raise ValueError(
            "`sparsify` takes either `granularity` or `runtime`. Received: "
            f"granularity={granularity!r}, runtime={runtime!r}"
        )
    if copy:
        layers = _in_copy(layers, model, model := copy_model(model))
    if runtime is not None:
        granularity = granularity_for(model, runtime)
    return put_masks_into(
        model, layers, settings, granularity, runtime=runtime, verbose=verbose
    )


def put_masks_into(
    model,
    layers,
    settings,
    granularity=None,
    *,
    trained_as=SCLModel,
    runtime=None,
    verbose=1,
):
    """Does what `sparsify` does, for a class to train the model as.

    Args:
        model: As for `sparsify`.
        layers: As for `sparsify`.
        settings: `MaskSettings`, whose granularity doesn't count.
        granularity: As for `sparsify`.
        trained_as: `SCLModel` or a subclass.
        runtime: As for `sparsify`: what the model remembers it was made for.
        verbose: As for `sparsify`.

    Returns:
        The model.
    """
    check_built(model, trained_as.__name__)
    chosen = chosen_layers(layers, model)
    granularity_of = granularities_of(granularity, model)
    shared = _variables_in_several_layers(model)
    why, plan = {}, []
    for layer in walk_inside(model):
        reason = _obstacle(layer, chosen, shared)
        switched = None if reason else granularity_of(layer)
        if reason or switched is None:
            why[id(layer)] = reason or "left out by `granularity`"
            continue
        own = dataclasses.replace(settings, granularity=switched)
        _check_fits(layer, own)
        plan.append((layer, own))
    if not plan and not find_masks(model):
        raise ValueError(
            f"Model '{model.name}' has no layer to mask. "
            + str(coverage_of(model, lambda layer: why.get(id(layer), _NO_TWIN)))
        )
    followers = _followers(model, plan)
    with backend.variables_scope(model):
        for layer, own in plan:
            put_masks(layer, own)
        for layer in _containers(model):
            put_masks(layer, settings)
        for layer in followers:
            follow_channels(layer)
    compiled = getattr(model, "compiled", False)
    learned = isinstance(model, SCLModel)
    as_masked_model(model, trained_as)
    if runtime is not None:
        model.masks_runtime = runtime
    forget_compiled(model)
    if compiled and learned:
        renew_optimizer(model)
    elif compiled:
        model.pair_optimizer()
    if verbose:
        coverage = coverage_of(model, lambda layer: why.get(id(layer), _NO_TWIN))
        if coverage.reasons:
            print(f"'{model.name}': {coverage}.")
    return model


_NO_TWIN = "no masked version of such layers is known (see `MaskedLayer`)"


def _obstacle(layer, chosen, shared):
    """Why a layer gets no masks now, or None."""
    if isinstance(layer, MaskedLayer):
        return "masked already"
    if not has_kernels(layer):
        return _NO_TWIN
    if id(layer) not in chosen:
        return "left out by `layers`"
    if not layer.built:
        return "not built yet"
    if getattr(layer, "quantization_mode", None):
        return f"quantized ({layer.quantization_mode})"
    if is_rewired(layer):
        return "LoRA is enabled"
    variables = [variable for _, variable in kernel_variables(layer)]
    holders = [x for v in variables for x in shared.get(id(v), ())]
    others = [x.name for x in holders if x is not layer]
    if others:
        return f"shared with '{others[0]}', which reads it by itself"
    return None


def _variables_in_several_layers(model):
    """Lists of layers by the ids of the variables that are attributes of all of them.

    As the kernel is that `SpectralNormalization` writes to: the other layer reads it
    past the masks.
    """
    found = {}
    for layer in walk_inside(model):
        for value in vars(layer).values():
            if isinstance(value, keras.Variable):
                holders = found.setdefault(id(value), [])
                if layer not in holders:
                    holders.append(layer)
    return {key: layers for key, layers in found.items() if len(layers) > 1}


def _check_fits(layer, settings):
    """Refuses a granularity that a kernel can't have, before anything is changed."""
    for name, kernel in own_kernels(layer).items():
        variable = getattr(layer, name)
        if variable is not None:
            settings.granularity.variable_shape(
                tuple(variable.shape), kernel.axes_of(layer)
            )


def _containers(model):
    """Stock layers that hand the kernels of masked layers in them to an operation."""
    return [
        layer
        for layer in reversed(walk_inside(model))
        if layer.built
        and masked_class_of(layer) is not None
        and not has_kernels(layer)
        and any(isinstance(x, MaskedLayer) for x in walk_inside(layer))
    ]


def _followers(model, plan):
    """The layers to be switched with the channels of a layer that will be masked."""
    heads = {
        id(layer)
        for layer, settings in plan
        if isinstance(settings.granularity, Channel)
        and settings.granularity.axes is None
    }
    if not heads or not is_graph(model):
        return []
    return [
        follower
        for layer, behind in chains(model)
        if id(layer) in heads and all(type(x) in FOLLOWERS for x in behind)
        for follower in behind
    ]


def _in_copy(layers, model, copied):
    """The choice of layers with the layers of a copy in the places of the model's."""
    twins = dict(zip(map(id, walk_inside(model)), walk_inside(copied), strict=True))
    several = isinstance(layers, (list, tuple, set))
    found = [
        twins.get(id(x), x) if isinstance(x, keras.layers.Layer) else x
        for x in (layers if several else [layers])
    ]
    return found if several else found[0]


def check_built(model, function):
    """Refuses, in the name of a function, what isn't a built Keras model."""
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            f"`{function}` needs a built Keras model: give a Sequential a "
            "`keras.Input`, and call a subclassed model once on data. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )


def unmasked_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that hold a kernel (a weight of rank two or more) but no mask.

    Args:
        model: A built Keras model or layer.

    Returns:
        A list of layers, each once.

    Example:

    ```python
    [layer.name for layer in unmasked_layers(dense_model)]  # ['dense_1', 'dense_2']
    ```
    """
    bare = [x for x, v in kernels_of(model) if not is_masked_kernel(x, v)]
    return list({id(layer): layer for layer in bare}.values())
