"""Walking through the layers of a Keras model, and through those inside of layers."""

import keras

from scl_keras.backend.keras_private import direct_sublayers
from scl_keras.masks.mask import Mask, split_masks


def is_graph(layer):
    """Whether it is a built functional or Sequential model: a graph to walk.

    A subclass of one with a `call` of its own computes something else than its graph.
    """
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    owner = next(base for base in type(layer).__mro__ if "call" in vars(base))
    return owner.__module__.startswith("keras.")


def graph_of(model):
    """The inputs and outputs of a functional or Sequential model, as it has them."""
    if isinstance(model, keras.Sequential):  # one input, and `input` is not its own
        outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
        return model.inputs[0], outputs
    return model.input, model.output


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
    found = {id(x): x for x in direct_sublayers(layer)}
    return [x for x in found.values() if not isinstance(x, Mask) and x is not layer]


def walk_inside(layer):
    """A layer and every layer inside of it at any depth, each once; masks left out.

    Args:
        layer: A Keras layer or model: nested models, wrappers and layers that a layer
            makes for itself are entered.

    Returns:
        A list of layers, each before those inside of it.
    """
    found = {}

    def visit(layer):
        if id(layer) not in found:
            found[id(layer)] = layer
            for child in sublayers(layer):
                visit(child)

    visit(layer)
    return list(found.values())


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


def check_graph(model, function):
    """Refuses, in the name of a function, a model that has no graph."""
    if not is_graph(model):
        raise ValueError(
            f"`{function}` needs a built functional or Sequential Keras model. Build a "
            "Sequential with a `keras.Input`. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
