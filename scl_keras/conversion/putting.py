"""Masks put into the layers of a model: into which, and into all of them or none."""

import contextlib
import dataclasses

import keras

from scl_keras import backend, checks
from scl_keras.backend.keras_private import track_parameters, use_first_quantize
from scl_keras.conversion.choices import chosen_layers, granularities_of
from scl_keras.conversion.coverage import coverage_of
from scl_keras.conversion.masked_model import as_masked_model, is_masked
from scl_keras.conversion.strip import forget_compiled, renew_optimizer
from scl_keras.graph.walking import is_graph, is_rewired, walk_inside
from scl_keras.layers.followers import FOLLOWERS, chains
from scl_keras.layers.in_place import (
    follow_channels,
    kernel_variables,
    put_masks,
    take_masks,
)
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.twins import has_kernels, masked_class_of, own_kernels
from scl_keras.masks.granularity import Channel
from scl_keras.masks.mask import find_masks
from scl_keras.training.model import SCLModel


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

    Raises:
        ValueError: As `sparsify`. The model is what it was before then.
    """
    checks.built_model(trained_as.__name__, model)
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
    with _all_or_nothing(model):
        _carry_out(plan, model, settings, trained_as, runtime)
    forget_compiled(model)
    if verbose:
        coverage = coverage_of(model, lambda layer: why.get(id(layer), _NO_TWIN))
        if coverage.reasons:
            print(f"'{model.name}': {coverage}.")
    return model


def _carry_out(plan, model, settings, trained_as, runtime):
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
    if compiled and learned:
        renew_optimizer(model)
    elif compiled:
        model.pair_optimizer()


@contextlib.contextmanager
def _all_or_nothing(model):
    """Leaves a model as it is if an error comes up while masks are put into it."""
    before = [(layer, type(layer)) for layer in walk_inside(model)]
    optimizer, runtime = (vars(model).get(k) for k in ("optimizer", "masks_runtime"))
    try:
        yield
    except BaseException:
        for layer, kind in before:
            if is_masked(layer) and type(layer) is not kind:
                take_masks(layer, cut=False)
        if type(model) is not before[0][1]:
            model.__class__ = before[0][1]
            use_first_quantize(model)
        if vars(model).get("optimizer") is not optimizer:
            model.optimizer = optimizer
        if vars(model).pop("masks_runtime", None) is not None and runtime is not None:
            model.masks_runtime = runtime
        for layer, _ in before:
            track_parameters(layer)
        raise


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
