"""How each call of a graph is followed: by a stand-in, or as fully connected."""

import dataclasses
import functools
from collections.abc import Callable

import keras
from keras import ops

from scl_keras.connectivity.activations import activated, is_known_activation
from scl_keras.connectivity.operations import operation_stand_in
from scl_keras.connectivity.stand_ins import is_known, layer_stand_in
from scl_keras.graph import walk_inside
from scl_keras.trace import Call


@dataclasses.dataclass(frozen=True)
class Step:
    """A call and how it is followed.

    Attributes:
        call: The `Call`.
        function: `function(xs, kernels)`: from 0/1 tensors for the call's inputs and
            its kernels to a list of tensors, positive where the outputs are reached.
        kernels: Pairs of a layer, the operation or one inside of it, and the name of a
            kernel.
        unknown: What about it isn't known and counts as fully connected, or None.
    """

    call: Call
    function: Callable
    kernels: tuple
    unknown: str | None


def step_of(call, prunable):
    """Finds how a call is followed.

    Args:
        call: A `scl_keras.trace.Call`.
        prunable: Names of the prunable kernels of layers, by the layers' ids.

    Returns:
        A `Step`.
    """
    operation = call.operation
    title = f"{operation.name} ({type(operation).__name__})"
    if not isinstance(operation, keras.layers.Layer):
        function = operation_stand_in(operation)
        if function is not None:
            run = functools.partial(_run_operation, function, call)
            return Step(call, run, (), None)
    elif (
        _is_plain(call)
        and (found := layer_stand_in(operation)) is not None
        # A stand-in of one's own may say nothing of kernels of layers inside.
        and all(x is operation for x, _ in _kernels_inside(operation, prunable))
    ):
        activation = getattr(operation, "activation", None)
        if not is_known_activation(activation):
            name = getattr(activation, "__name__", type(activation).__name__)
            title = f"{title}: activation {name}"
        else:
            title = None
        run = functools.partial(_run_layer, found, call)
        return Step(call, run, tuple((operation, k) for k in found.kernels), title)
    inside = _kernels_inside(operation, prunable)
    return Step(call, functools.partial(_connect_fully, call), inside, title)


def _kernels_inside(operation, prunable):
    """Pairs of a layer and a name: all prunable kernels of an operation."""
    if not isinstance(operation, keras.layers.Layer):
        return ()
    inside = walk_inside(operation)
    return tuple((x, name) for x in inside for name in prunable.get(id(x), ()))


def _is_plain(call):
    """Whether a layer is called with its inputs only, and does as its class says."""
    options = {k: v for k, v in call.kwargs.items() if v is not None}
    return (
        len(call.args) == 1
        and set(options) <= {"training"}
        and is_known(call.operation)
    )


def _run_operation(function, call, xs, kernels):
    return keras.tree.flatten(function(call, xs))


def _run_layer(stand_in, call, xs, kernels):
    (args,) = call.args
    masks = dict(zip(stand_in.kernels, kernels, strict=True))
    args = keras.tree.pack_sequence_as(args, xs)
    outputs = keras.tree.flatten(stand_in.function(call.operation, args, **masks))
    activation = getattr(call.operation, "activation", None)
    return [
        activated(activation, y, out.shape)
        for y, out in zip(outputs, call.outputs, strict=True)
    ]


def _connect_fully(call, xs, kernels):
    total = sum(ops.sum(x) for x in xs) * (1 + sum(ops.sum(k) for k in kernels))
    return [ops.broadcast_to(total, out.shape) for out in call.outputs]
