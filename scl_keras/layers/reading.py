"""For how long the kernels of masked layers read as `v * H(s)`.

A layer's `_masked` says so to its declarations (`MaskedKernel`, `MaskedBias`): None
outside of calls, within them a dict of what has been computed already, once for all
that reads it.
"""

import contextlib

from scl_keras.graph.walking import walk_inside
from scl_keras.layers.twins import is_twin


@contextlib.contextmanager
def applying_masks(layer):
    """Has kernels read as masked ones, of a layer and of all inside of it.

    Inside too, since some layers hand the kernels of their cell to a fused operation,
    and the others loop over it: there, masking once is enough.
    """
    before = []
    for inner in walk_inside(layer):
        if is_twin(inner) and not vars(inner).get("_masked"):
            before.append((inner, vars(inner).get("_masked")))
            vars(inner)["_masked"] = {}
    try:
        for inner, _ in before:
            if inner.built:
                vars(inner)["_masked"] = inner.read_once()
        yield
    finally:
        for inner, value in before:
            vars(inner)["_masked"] = value


@contextlib.contextmanager
def reading_masked(layers):
    """Has the kernels of layers read as masked ones, outside of their calls, too.

    Such as those of an embedding that the head of the model reads.

    Args:
        layers: List of `MaskedLayer`.
    """
    entered = [x for x in layers if vars(x).get("_masked") is None]
    for layer in entered:
        vars(layer)["_masked"] = {}
    try:
        yield
    finally:
        for layer in entered:
            vars(layer)["_masked"] = None
