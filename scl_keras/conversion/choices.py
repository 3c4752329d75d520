"""From what a user says of layers to what it means for each of them."""

import keras

from scl_keras.graph.walking import walk_inside
from scl_keras.layers.twins import has_kernels, is_maskable
from scl_keras.masks import granularity as granularities


def chosen_layers(layers, model):
    """The layers of a model that a choice stands for, with all inside of them.

    Args:
        layers: A layer, a layer type, a name, a predicate, or a list of these; None
            for all.
        model: A built model.

    Returns:
        A set of the ids of layers.

    Raises:
        ValueError: If an item is something else, or stands for no layer with a kernel.
    """
    known = walk_inside(model)
    if layers is None:
        return {id(layer) for layer in known}
    chosen = set()
    for choice in layers if isinstance(layers, (list, tuple, set)) else [layers]:
        if not callable(choice) and not isinstance(choice, str):
            raise ValueError(
                "`layers` takes layers, layer types, names and predicates. Received: "
                f"{choice!r} (of type {type(choice).__name__})"
            )
        if isinstance(choice, keras.layers.Layer) and choice not in known:
            raise ValueError(
                f"`layers` has a layer that is none of '{model.name}'. "
                f"Received: {choice!r}"
            )
        found = [layer for layer in known[1:] if _matches(layer, choice)]
        if choice is model:
            found = [model]
        chosen |= {id(x) for layer in found for x in _with_inside(layer, choice)}
        if not found:
            raise _no_such("layers", choice, model)
    if not any(has_kernels(layer) for layer in known if id(layer) in chosen):
        raise _no_such("layers", layers, model)
    return chosen


def granularities_of(granularity, model):
    """What the masks of each layer switch.

    Args:
        granularity: A `Granularity` or its name, a dict of them by the names or types
            of layers, or a function from a layer to one; None for no masks.
        model: A built model.

    Returns:
        A function from a layer to a `Granularity` or None.

    Raises:
        ValueError: If it is something else, or a key stands for no layer with a kernel.
    """
    if isinstance(granularity, dict) and "class_name" not in granularity:
        return _by_key(granularity, model)
    if not callable(granularity):
        one = granularities.get("connection" if granularity is None else granularity)
        return lambda layer: one

    def of(layer):
        found = granularity(layer)
        return None if found is None else granularities.get(found)

    return of


def _by_key(chosen, model):
    found = {}
    # Names tell more than types, and what is further inside more than what is around.
    for kind in (type, str):
        for key, value in chosen.items():
            if not isinstance(key, (type, str)):
                raise ValueError(
                    "`granularity` by layers takes their names and types. "
                    f"Received: {key!r}"
                )
            if isinstance(key, kind):
                value = None if value is None else granularities.get(value)
                layers = [x for x in walk_inside(model)[1:] if _matches(x, key)]
                if not any(has_kernels(x) for y in layers for x in walk_inside(y)):
                    raise _no_such("granularity", key, model)
                for layer in layers:
                    found |= {id(x): value for x in walk_inside(layer)}
    rest = granularities.get("connection")
    return lambda layer: found.get(id(layer), rest)


def _matches(layer, choice):
    if isinstance(choice, str):
        return layer.name == choice
    if isinstance(choice, type):
        return isinstance(layer, choice)
    if isinstance(choice, keras.layers.Layer):
        return layer is choice
    return bool(choice(layer))


def _with_inside(layer, choice):
    """The layers that a match stands for.

    A model or wrapper stands for all of its layers, unless a predicate looks at each of
    these; what an `LSTM` makes for itself goes with it.
    """
    named = isinstance(choice, (str, type, keras.layers.Layer))
    if named or is_maskable(layer):
        return walk_inside(layer)
    return [layer]


def _no_such(argument, choice, model):
    layers = [x for x in walk_inside(model) if has_kernels(x)]
    kinds = {type(x).__name__ for x in layers}
    names = dict.fromkeys(layer.name for layer in layers)
    return ValueError(
        f"`{argument}` has {choice!r}, which is no layer of '{model.name}' with a "
        "kernel that can be masked. Its layers with such kernels are: "
        f"{', '.join(names) or 'none'}; of the types {', '.join(sorted(kinds))}. "
        f"Received: {argument}={choice!r}"
    )
