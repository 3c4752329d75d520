"""A graph made anew of other layers."""

import keras

from scl_keras.conversion.state import copy_state
from scl_keras.graph.walking import is_graph
from scl_keras.training.model import SCLModel


def rebuild(model, convert, done):
    """Clones a graph with each layer converted, and copies weights and state over.

    `done` maps the ids of layers to their copies, so that what is shared stays shared.
    """

    def clone(layer):
        if id(layer) not in done:
            if is_graph(layer):
                done[id(layer)] = rebuild(layer, convert, done)
            else:
                done[id(layer)] = convert(layer)
                pairs.append((layer, done[id(layer)]))
        return done[id(layer)]

    pairs = []
    if isinstance(model, keras.Sequential):
        inputs = _input_like(model.inputs[0])
        layers = [inputs, *map(clone, model.layers)]
        copy = keras.Sequential(layers, name=model.name)
    else:
        # A new model around the same graph: cloning a compiled one compiles the clone.
        graph = keras.Model(model.input, model.output, name=model.name)
        inputs = keras.tree.map_structure(_input_like, model.input)
        copy = keras.models.clone_model(graph, inputs, clone_function=clone)
    for old, new in pairs:
        if isinstance(old, keras.layers.Layer):
            copy_state(old, new)
    return copy


def _input_like(tensor):
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=tensor.name,
    )


def as_scl_model(copy):
    """An `SCLModel` of the same graph as a functional or Sequential model."""
    if isinstance(copy, keras.Sequential):  # one input, and `input` is not its own
        outputs = copy.outputs if len(copy.outputs) > 1 else copy.outputs[0]
        return SCLModel(copy.inputs[0], outputs, name=copy.name)
    return SCLModel(copy.input, copy.output, name=copy.name)


def check_graph(model, function):
    """Refuses, in the name of a function, a model that has no graph."""
    if not isinstance(model, keras.Model) or not is_graph(model):
        kind = type(model).__name__
        raise ValueError(
            f"`{function}` needs a built functional or Sequential Keras model. Build a "
            "Sequential with a `keras.Input`; derive a subclassed model from "
            "`SCLModel`, and use masked layers in it. "
            f"Received: {model!r} (of type {kind})"
        )
