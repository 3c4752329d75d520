"""Walking through the layers of a Keras model, and through those inside of layers."""

import keras

from scl_keras.masks.mask import Mask, split_masks


def is_graph(layer):
    """Whether it is a built functional or Sequential model: a graph to walk."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def is_rewired(layer):
    """Whether a layer computes with something else than its plain kernel."""
    return bool(
        getattr(layer, "lora_enabled", False)
        or getattr(layer, "quantization_mode", None)
    )


def sublayers(layer):
    """The layers directly inside of a layer, each once, in its order; masks left out.

    Args:
        layer: A Keras layer or model.

    Returns:
        A list of layers.
    """
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    found = {}

    def visit(value):
        if isinstance(value, keras.layers.Layer):
            found.setdefault(id(value), value)
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                visit(item)
        elif isinstance(value, dict):
            visit(list(value.values()))

    # Keras only tells the layers of models.
    visit(vars(layer))
    return [x for x in found.values() if not isinstance(x, Mask) and x is not layer]


def wrapped_layers(layer):
    """The sublayers that a layer's config holds, such as those of a `Bidirectional`.

    They were given to it, so that a copy of it may be given others.
    """
    return [inner for inner, _ in wrapped_configs(layer, _config_of(layer))]


def wrapped_configs(layer, config):
    """Pairs of a wrapped layer and its serialized form in the wrapper's config."""
    waiting = {}
    for inner in sublayers(layer):
        waiting.setdefault(inner.name, []).append(inner)
    pairs = []

    def visit(value):
        if isinstance(value, dict):
            inner = value.get("config")
            name = inner.get("name") if isinstance(inner, dict) else None
            if "class_name" in value and waiting.get(name):
                pairs.append((waiting[name].pop(0), value))
            else:
                visit(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)

    if waiting:
        visit(config)
    return pairs


def _config_of(layer):
    if not sublayers(layer):
        return {}
    try:
        return layer.get_config()
    except NotImplementedError:  # a custom layer that can't be copied
        return {}


def walk_layers(model):
    """All layers of a model, each once, nested models and wrappers before their layers.

    Layers that a layer makes for itself, as an `LSTM` its cell, are part of it and not
    listed; `walk_inside` has these, too.
    """

    def children(layer):
        nested = isinstance(layer, keras.Model)
        return layer.layers if nested else wrapped_layers(layer)

    layers = walk(model, children)
    if isinstance(model, keras.Model):
        next(layers)
    return layers


def walk_inside(layer):
    """A layer and every layer inside of it at any depth, each once; masks left out."""
    return walk(layer, sublayers)


def walk(layer, children):
    """A layer, and all that `children` leads to from it, each once."""
    seen = set()

    def visit(layer):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            for child in children(layer):
                yield from visit(child)

    return visit(layer)


def own_weights(layer):
    """A layer's weights that are neither masks nor those of a layer inside."""
    inner = {id(w) for x in sublayers(layer) for w in x.weights}
    weights, _ = split_masks(layer.weights)
    return [w for w in weights if id(w) not in inner]


def running_statistics(model):
    """Weights that calls of the model update, such as those of batch normalization."""
    return [
        w
        for layer in walk_inside(model)
        if layer.trainable
        for w in own_weights(layer)
        if not w.trainable and keras.backend.is_float_dtype(w.dtype)
    ]
