"""From what a user says of layers to a function that knows it of each."""

import keras

from scl_keras.graph.walking import walk_layers
from scl_keras.masks import granularity as granularities


def layer_selector(layers, model):
    """A predicate from the many ways to name layers."""
    if layers is None:
        return lambda layer: True
    choices = layers if isinstance(layers, (list, tuple, set)) else [layers]
    known = list(walk_layers(model))
    names = {layer.name for layer in known}
    for choice in choices:
        if isinstance(choice, str) and choice not in names:
            raise ValueError(
                f"`layers` names '{choice}', which is no layer of '{model.name}'. Its "
                f"layers are: {', '.join(sorted(names))}"
            )
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

    def matches(layer, choice):
        if isinstance(choice, str):
            return layer.name == choice
        if isinstance(choice, type):
            return isinstance(layer, choice)
        if isinstance(choice, keras.layers.Layer):
            return layer is choice
        return bool(choice(layer))

    # A model or wrapper stands for all of its layers, unless a predicate looks at each.
    whole = [x for x in choices if isinstance(x, (str, type, keras.layers.Layer))]
    inside = {
        id(inner)
        for outer in known
        if any(matches(outer, choice) for choice in whole)
        for inner in walk_layers(outer)
    }
    return lambda layer: (
        id(layer) in inside or any(matches(layer, choice) for choice in choices)
    )


def granularity_selector(granularity, target, model):
    """A function from a layer to a `Granularity`, or None for no masks."""
    if target is not None:
        if granularity is not None:
            raise ValueError(
                "`sparsify` takes either `granularity` or `target`. Received: "
                f"granularity={granularity!r}, target={target!r}"
            )
        return _for_target(model, target)
    granularity = "connection" if granularity is None else granularity
    if isinstance(granularity, dict) and "class_name" not in granularity:
        known = {layer.name for layer in walk_layers(model)}
        for key in granularity:
            if key not in known and not isinstance(key, type):
                raise ValueError(
                    f"`granularity` names {key!r}, which is no layer of "
                    f"'{model.name}'. Its layers are: {', '.join(sorted(known))}"
                )
        chosen = granularity

        def granularity(layer):
            types = [x for x in chosen if isinstance(x, type) and isinstance(layer, x)]
            found = [x for x in (layer.name, *types) if x in chosen]
            return chosen[found[0]] if found else "connection"

    of = granularity if callable(granularity) else lambda layer: granularity
    if not callable(granularity):
        granularities.get(granularity)  # bad ones fail early

    def granularity_of(layer):
        found = of(layer)
        return None if found is None else granularities.get(found)

    return granularity_of


def _for_target(model, target):
    from scl_keras.targets.check import plan_for_target  # it needs this module

    check, granularity_of = plan_for_target(model, target)
    if not any(row.granularity for row in check.rows):
        raise ValueError(f"No layer of '{model.name}' gains on {target!r}:\n{check}")
    print(check)
    return granularity_of
