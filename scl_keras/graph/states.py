"""The states of recurrent layers, which are no weights, and no file holds."""

import contextlib

import keras
import numpy as np
from keras import ops

from scl_keras.graph.walking import walk_inside


@contextlib.contextmanager
def from_initial_states(model):
    """Has stateful layers start from zeros for a while, and then go on as they were.

    Args:
        model: A built Keras model.
    """
    layers = [x for x in walk_inside(model) if getattr(x, "stateful", False)]
    states = [x for layer in layers for x in keras.tree.flatten(layer.states or [])]
    before = [np.array(ops.convert_to_numpy(x)) for x in states]
    for x in states:
        x.assign(ops.zeros(x.shape, x.dtype))
    try:
        yield
    finally:
        for x, value in zip(states, before, strict=True):
            x.assign(value)
