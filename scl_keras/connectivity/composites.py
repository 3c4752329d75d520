"""Following layers that compute with the kernels of layers inside of them.

Such a layer is followed step by step. So that nothing grows on the way, each step ends
with `binarized`: in between all is zeros and ones, backwards as well as forwards.
"""

import keras
from keras import ops

from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.graph.arguments import given_arguments
from scl_keras.graph.walking import walk_inside
from scl_keras.layers.twins import own_kernels


def composite_run(call):
    """The function `run(masks, xs)` of a call, or None where none is known."""
    found = rule_of(call.operation).composite
    arguments = found and _arguments(found, call)
    run = arguments and found.plan(call.operation, **arguments)
    if not run:
        return None
    places = [id(x) for x in call.inputs]
    names = [name for name in found.tensors if name in arguments]

    def run_on(masks, xs):
        given = dict(zip(places, xs, strict=True))
        return run(masks, **{name: given[id(arguments[name])] for name in names})

    return run_on


def _arguments(found, call):
    """The call's arguments by their names, or None if there are others."""
    arguments = {
        name: value
        for name, value in given_arguments(call).items()
        if name != "training"
        # What is left out by a mask that hangs on no input counts as if it weren't.
        and not ("mask" in name and keras.ops.is_tensor(value))
    }
    tensors = arguments.keys() - set(found.options)
    known = tensors <= set(found.tensors) and all(
        isinstance(arguments[name], keras.KerasTensor) for name in tensors
    )
    return arguments if known else None


def kernels_inside(layer):
    """Pairs of a layer and a kernel's name, of a layer and all inside of it."""
    pairs = []
    for inner in walk_inside(layer):
        names = dict.fromkeys(own_kernels(inner))
        names |= dict.fromkeys(rule_of(inner).kernels)
        pairs += [(inner, name) for name in names if inner.built]
    return tuple(pairs)


@ops.custom_gradient
def binarized(x):
    """1 where a tensor is positive, else 0; the same of what comes back."""

    def backward(*args, upstream=None):
        # PyTorch's gives the function's own arguments, and this one by its name.
        return binary(args[0] if upstream is None else upstream)

    return binary(x), backward


def binary(x):
    """1 where a tensor of whole numbers is positive, else 0."""
    return ops.cast(positive(x), "float32")


def positive(x):
    """Where a tensor of whole numbers is positive, as booleans."""
    # The half is far from both zero and one, for convolutions that are computed by
    # transforms and so are only nearly exact, as on some GPUs.
    return ops.greater(x, 0.5)
