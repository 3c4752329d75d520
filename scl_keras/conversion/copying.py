"""An independent copy of a model, as Keras itself writes and reads it."""

import contextlib
import itertools
import tempfile
import types

import keras
from keras import ops

from scl_keras.conversion.masked_model import stock_classes
from scl_keras.graph.inputs import input_like
from scl_keras.graph.walking import graph_of, is_graph, walk_inside
from scl_keras.layers.in_place import put_masks_like
from scl_keras.masks.mask import find_masks


def copy_model(model):
    """Copies a model, with or without masks, by its configuration and its weights.

    No array is shared with the model. What layers have adapted to, such as
    vocabularies, comes along. The copy isn't compiled.

    Args:
        model: A built Keras model.

    Returns:
        A model of the same class.

    Raises:
        ValueError: If Keras can't make the model of its configuration, or makes another
            one.
    """
    try:
        with _own_functions_named(model) as functions:
            config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        own = _own_classes(model)
        with keras.saving.CustomObjectScope(own | functions):
            copied = keras.saving.deserialize_keras_object(config, safe_mode=False)
        copy_state(model, copied)
    except Exception as error:  # whatever a user's `get_config` or Keras may raise
        raise ValueError(
            f"Keras can't copy model '{model.name}'{_culprit(model)}. Do without "
            "`copy`, or let each custom layer have a `get_config` that its `__init__` "
            f"takes. Received: {type(error).__name__}: {error}"
        ) from error
    return copied


def copy_graph(model, change=None, call=None, dtype=None):
    """Copies a functional or Sequential model layer by layer, with its masks.

    Layers that are shared stay shared, also between nested models, which a model's
    configuration can't tell.

    Args:
        model: A built functional or Sequential model.
        change: Function that may change a copied layer, before it is built.
        call: Function that calls a copied layer, `call(layer, *args, **kwargs)`.
        dtype: Float type of the copy's inputs, by default as they are.

    Returns:
        A functional model, or a Sequential one of a Sequential, not compiled. With
        masks, `as_masked_model` has yet to make the model of it that trains them.

    Raises:
        ValueError: If a layer can't be made of its configuration.
    """
    with stock_classes(model):
        copied, pairs = _copy_graph(model, change, call, dtype, {})
    for old, new in pairs:
        for a, b in pairs_of_layers(old, new):
            put_masks_like(a, b)
        copy_state(old, new)
    return copied


def _copy_graph(model, change, call, dtype, done):
    """A copy of a graph, and pairs of its layers and theirs, nested ones' too.

    `done` maps the ids of layers to their copies, so that what is shared stays shared.
    """
    pairs = []

    def clone(layer):
        if id(layer) not in done:
            if is_graph(layer):
                done[id(layer)], inner = _copy_graph(layer, change, call, dtype, done)
                pairs.extend(inner)
            else:
                done[id(layer)] = copied = copy_layer(layer)
                if change is not None and isinstance(layer, keras.layers.Layer):
                    change(copied)
                if isinstance(layer, keras.layers.Layer):
                    pairs.append((layer, done[id(layer)]))
        return done[id(layer)]

    if isinstance(model, keras.Sequential) and call is None:
        start = input_like(model.inputs[0], dtype=dtype)
        layers = [start, *map(clone, model.layers)]
        return keras.Sequential(layers, name=model.name), pairs
    # A new model around the same graph: cloning a compiled one compiles the clone.
    inputs, outputs = graph_of(model)
    graph = keras.Model(inputs, outputs, name=model.name)
    copied = keras.models.clone_model(
        graph,
        keras.tree.map_structure(lambda x: input_like(x, dtype=dtype), inputs),
        clone_function=clone,
        call_function=call,
    )
    return copied, pairs


def copy_layer(layer, **changes):
    """A layer of the same configuration, not built: `copy_state` gives it the state.

    Args:
        layer: A Keras layer, or an operation of `keras.ops`.
        **changes: What its configuration shall have instead.

    Raises:
        ValueError: If the layer can't be made of its configuration.
    """
    if not isinstance(layer, keras.layers.Layer):
        return type(layer).from_config({**layer.get_config(), **changes})
    try:
        with _own_functions_named(layer) as functions:
            config = {**layer.get_config(), **changes}
        with keras.saving.CustomObjectScope(_own_classes(layer) | functions):
            return type(layer).from_config(config)
    except Exception as error:  # whatever a user's `get_config` may raise
        raise ValueError(
            f"Keras can't copy layer '{layer.name}' ({type(layer).__name__}): let it "
            "have a `get_config` that its `__init__` takes. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def pairs_of_layers(model, copied):
    """The layers in a model, or in a layer, and those in a copy that stand for them.

    Raises:
        ValueError: If the copy has others, such as those that are made in a `call`.
    """
    layers = walk_inside(model), walk_inside(copied)
    for old, new in itertools.zip_longest(*layers):
        if _stock_class(old) is not _stock_class(new):
            raise ValueError(
                f"Made of its configuration, '{model.name}' has other layers inside: "
                f"{_described(new)} where there was {_described(old)}"
            )
    return list(zip(*layers, strict=True))


def _stock_class(layer):
    kind = type(layer)
    while "stock_class" in vars(kind):
        kind = kind.stock_class
    return kind


def _described(layer):
    if layer is None:
        return "none"
    return f"'{layer.name}' ({_stock_class(layer).__name__})"


def copy_state(model, copied):
    """Gives a copy of a model, or of a layer, all that the layers in it have learned.

    Args:
        model: The layer.
        copied: A built one of the same configuration.

    Raises:
        ValueError: If it has other layers inside, or other weights.
    """
    layers = pairs_of_layers(model, copied)
    weights = model.weights, copied.weights
    shapes = [[(w.path, tuple(w.shape)) for w in x] for x in weights]
    for old, new in itertools.zip_longest(*shapes, fillvalue=("none", None)):
        if old[1] != new[1]:
            raise ValueError(
                f"Made of its configuration, '{model.name}' has other weights: "
                f"'{new[0]}' of shape {new[1]} where there was '{old[0]}' of shape "
                f"{old[1]}"
            )
    for old, new in zip(*weights, strict=True):
        new.assign(ops.copy(old))  # on JAX it would share its array, and delete it
    for old, new in zip(find_masks(model), find_masks(copied), strict=True):
        new.frozen.assign(ops.copy(old.frozen))
    for old, new in layers:
        new.trainable = old.trainable
        if isinstance(old, keras.layers.Normalization):
            new.finalize_state()
        if hasattr(old, "save_assets"):  # vocabularies
            with tempfile.TemporaryDirectory() as directory:
                old.save_assets(directory)
                new.load_assets(directory)


def _own_classes(model):
    """The classes of a user's layers, registered or not, by their names."""
    kinds = {type(layer) for layer in walk_inside(model)}
    return {
        kind.__name__: kind
        for kind in kinds
        if not kind.__module__.startswith(("keras.", "scl_keras."))
    }


@contextlib.contextmanager
def _own_functions_named(model):
    """Lets a configuration name a user's functions, which Keras would write as code.

    Made anew of their byte code, lambdas would miss their globals.

    Yields:
        Dict of the functions by their names, to find them by afterwards.
    """
    functions, changed = {}, []
    for layer in walk_inside(model):
        for name in _FUNCTIONS:
            function = vars(layer).get(name)
            if isinstance(function, types.FunctionType) and not (
                function.__module__.startswith("keras.")
            ):
                named = types.FunctionType(
                    function.__code__,
                    function.__globals__,
                    name=f"function_{len(functions)}",
                    closure=function.__closure__,
                )
                functions[named.__name__] = function
                changed.append((layer, name, function))
                vars(layer)[name] = named
    try:
        yield functions
    finally:
        for layer, name, function in changed:
            vars(layer)[name] = function


_FUNCTIONS = ("function", "mask", "_output_shape", "activation", "recurrent_activation")


def _culprit(model):
    """Which layer of a model it fails for, if it does for one alone."""
    for layer in reversed(walk_inside(model)[1:]):
        try:
            with keras.saving.CustomObjectScope(_own_classes(layer)):
                type(layer).from_config(layer.get_config())
        except Exception:
            return f", because of layer '{layer.name}' ({type(layer).__name__})"
    return ""
