"""How each call of a graph is followed: by a rule, or as fully connected."""

import dataclasses
import functools
from collections.abc import Callable

import keras
from keras import ops

from scl_keras.connectivity.activations import activated, is_known_activation
from scl_keras.connectivity.composites import composite_run, kernels_inside
from scl_keras.connectivity.implicit_masks import hands_mask_on
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operations import operation_stand_in
from scl_keras.graph.arguments import filled, given_arguments, inputs_and_options
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.recording import Call, Constant
from scl_keras.graph.walking import running_statistics
from scl_keras.layers.twins import has_kernels


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

    @property
    def may_vary(self):
        """Whether its outputs may be others each time, for the same inputs.

        More isn't known of an unknown operation, and in training there is noise.
        """
        operation = self.call.operation
        if self.unknown or not isinstance(operation, keras.layers.Layer):
            return bool(self.unknown)
        return "training" in given_arguments(self.call)


def steps_of(calls):
    """Finds how the calls of a graph are followed.

    Args:
        calls: List of `scl_keras.graph.recording.Call`, in an order in which they can
            be made.

    Returns:
        A list of `Step`.
    """
    masked, steps = set(), []
    for call in calls:
        under_mask = any(id(x) in masked for x in call.inputs)
        steps.append(_step_of(call, under_mask))
        if hands_mask_on(call.operation, under_mask):
            masked |= {id(x) for x in call.outputs}
    return steps


def needs_entering(call):
    """Whether a layer's own calls have to be followed: there is no rule for its call.

    Not where it has kernels of its own: what it does with these, its calls don't tell.

    Args:
        call: A `scl_keras.graph.recording.Call` of a layer.
    """
    if has_kernels(call.operation):
        return False
    rule = rule_of(call.operation)
    if rule.reach is not None and _is_plain(call, rule):
        return False
    return composite_run(call) is None


def _step_of(call, under_mask):
    operation = call.operation
    title = f"{operation.name} ({type(operation).__name__})"
    if isinstance(operation, Constant):
        return Step(call, functools.partial(_reach_nothing, call), (), None)
    if not isinstance(operation, keras.layers.Layer):
        function = operation_stand_in(operation)
        if function is not None:
            run = functools.partial(_run_operation, function, call)
            return Step(call, run, (), None)
        return Step(call, functools.partial(_connect_fully, call), (), title)
    rule = rule_of(operation)
    if rule.reach is not None and _is_plain(call, rule):
        activation = getattr(operation, "activation", None)
        if not is_known_activation(activation):
            name = getattr(activation, "__name__", type(activation).__name__)
            title = f"{title}: activation {name}"
        else:
            title = None
        run = functools.partial(_run_layer, rule, call)
        return Step(call, run, tuple((operation, k) for k in rule.kernels), title)
    kernels = kernels_inside(operation)
    if not under_mask and (found := composite_run(call)) is not None:
        run = functools.partial(_run_composite, found, kernels)
        return Step(call, run, kernels, None)
    if rule.reach is not None and (inside := _kernels_inside(operation)):
        title = f"{title}: its rule knows nothing of the kernels in '{inside[0].name}'"
    return Step(call, functools.partial(_connect_fully, call), kernels, title)


def _kernels_inside(layer):
    """The layers inside of a layer that have kernels."""
    kernels = prunable_kernels(layer)
    return [kernel.layer for kernel in kernels if kernel.layer is not layer]


def _is_plain(call, rule):
    """Whether a layer is called with its inputs only, and does as its rule says."""
    _, options = inputs_and_options(call)
    # Normalized by the batch, as in training, positions hang together.
    by_batch = bool(options) and bool(running_statistics(call.operation))
    return (
        set(options) <= {"training"}
        and not by_batch
        and rule.is_known(call.operation)
        # A rule of one's own may say nothing of the kernels of layers inside.
        and not _kernels_inside(call.operation)
    )


def _run_operation(function, call, xs, kernels):
    return keras.tree.flatten(function(call, xs))


def _run_layer(rule, call, xs, kernels):
    args, _ = inputs_and_options(call)
    masks = dict(zip(rule.kernels, kernels, strict=True))
    args = filled(args, xs, _no_path)
    outputs = keras.tree.flatten(rule.reach(call.operation, args, **masks))
    activation = getattr(call.operation, "activation", None)
    return [
        activated(activation, y, out.shape)
        for y, out in zip(outputs, call.outputs, strict=True)
    ]


def _no_path(constant):
    """Zeros for an array that hangs on no input."""
    return ops.zeros(constant.shape) if hasattr(constant, "shape") else constant


def _run_composite(run, pairs, xs, kernels):
    keys = [(id(layer), name) for layer, name in pairs]
    return run(dict(zip(keys, kernels, strict=True)), xs)


def _reach_nothing(call, xs, kernels):
    return [ops.zeros(out.shape, "float32") for out in call.outputs]


def _connect_fully(call, xs, kernels):
    total = sum(ops.sum(x) for x in xs) * (1 + sum(ops.sum(k) for k in kernels))
    return [ops.broadcast_to(total, out.shape) for out in call.outputs]
