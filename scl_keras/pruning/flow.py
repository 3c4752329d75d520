"""Synaptic flow: the sum over all paths of the products of absolute weights."""

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operations import operation_stand_in
from scl_keras.graph.arguments import filled, inputs_and_options
from scl_keras.graph.recording import Call
from scl_keras.graph.walking import walk_inside
from scl_keras.pruning.log_domain import apply, apply_backwards, log


class SynapticFlow:
    """The synaptic flow `R` of a model, and each weight's share `|w| ∂R/∂|w|` of it.

    `R` is the sum of the model's outputs for an input of ones, with absolute weights
    and biases and without activations (Tanaka et al., arXiv 2006.05467). Batch
    normalization is the scale and shift that it is in inference, in absolute numbers,
    and other normalizations their scale and shift alone. What isn't linear is taken as
    linear: maximum pooling as mean pooling, a product as a sum. Operations that
    `scl_keras.connectivity` doesn't know connect all inputs with all outputs.

    It is computed with logarithms (`log_domain`), at any depth.

    Args:
        graph: A `scl_keras.connectivity.ConnectionGraph`.
    """

    def __init__(self, graph):
        self.trace = graph.trace
        self.rules = [_rule(step.call, step.function) for step in graph.steps]

    def log_scores(self, kernels, weights):
        """Natural logarithms of the shares of `R`, zeros being minus infinity.

        Args:
            kernels: List of `scl_keras.graph.kernels.Kernel`.
            weights: Their weights, a list of arrays, with zeros for cut connections.

        Returns:
            A list of float64 arrays, one a kernel.

        Raises:
            ValueError: If a kernel is in an operation that isn't known.
        """
        values = _by_key(kernels, weights)
        _, gradients = self._spread(values)
        scores = []
        for kernel in kernels:
            key = id(kernel.layer), kernel.name
            if key in gradients:
                scores.append(values[key] + gradients[key])
            elif (operation := self._reader_without_rule(kernel)) is not None:
                # A rule knows the layer's own kernels, and is no help with others.
                or_else = (
                    ""
                    if operation is not kernel.layer
                    else ", or, if it is a layer of your own, tell it with "
                    "`scl_keras.register_rule` or `scl_keras.stand_in`"
                )
                raise ValueError(
                    f"What flows through '{kernel.label}' isn't known, since it is in "
                    f"'{operation.name}' ({type(operation).__name__}). Leave it out "
                    f"with `layers`{or_else}."
                )
            else:
                scores.append(np.full(kernel.shape, -np.inf))
        return scores

    def log_total(self, kernels, weights):
        """`log(R)`; arguments as of `log_scores`."""
        return self._spread(_by_key(kernels, weights))[0]

    def _reader_without_rule(self, kernel):
        """The operation that a kernel is in, if there is one, and it has no rule."""
        key = id(kernel.layer), kernel.name
        if any(key in rule.keys for rule in self.rules):
            return None
        operations = [rule.call.operation for rule in self.rules]
        readers = (
            x
            for x in operations
            if isinstance(x, layers.Layer)
            and any(inner is kernel.layer for inner in walk_inside(x))
        )
        return next(readers, None)

    def _spread(self, values):
        flows = {id(x): _ones(x) for x in self.trace.inputs}
        for rule in self.rules:
            ys = apply(rule.function, rule.inputs(flows), rule.weights(values))
            for out, y in zip(rule.call.outputs, ys, strict=True):
                flows[id(out)] = (
                    y if rule.shift is None else np.logaddexp(y, rule.shift)
                )
        outputs = {id(x): x for x in self.trace.outputs}
        upstream = {key: _ones(x) for key, x in outputs.items()}
        gradients = {}
        for rule in reversed(self.rules):
            _pull_back(rule, flows, values, upstream, gradients)
        sums = [np.logaddexp.reduce(flows[key], axis=None) for key in outputs]
        return np.logaddexp.reduce(sums), gradients


@dataclasses.dataclass(frozen=True)
class _Rule:
    """How a call of the graph passes flow on: `function(xs, kernels) + shift`."""

    call: Call
    function: Callable
    names: tuple = ()  # of kernels
    constants: tuple = ()  # logarithms, given to the function after the kernels
    shift: np.ndarray | None = None  # logarithms

    @property
    def keys(self):
        return [(id(self.call.operation), name) for name in self.names]

    def inputs(self, flows):
        return [flows[id(x)] for x in self.call.inputs]

    def weights(self, values):
        layer = self.call.operation
        own = [
            values[key] if key in values else _absolute(getattr(layer, key[1]))
            for key in self.keys
        ]
        return [*own, *self.constants]


def _pull_back(rule, flows, values, upstream, gradients):
    outputs = rule.call.outputs
    if not any(id(out) in upstream for out in outputs):
        return
    asked = [upstream.get(id(out), _zeros(out)) for out in outputs]
    xs, weights = rule.inputs(flows), rule.weights(values)
    of_xs, of_weights = apply_backwards(rule.function, xs, weights, asked)
    for x, found in zip(rule.call.inputs, of_xs, strict=True):
        key = id(x)
        upstream[key] = np.logaddexp(upstream[key], found) if key in upstream else found
    for key, found in zip(rule.keys, of_weights, strict=False):  # constants come after
        gradients[key] = (
            np.logaddexp(gradients[key], found) if key in gradients else found
        )


def _rule(call, stand_in):
    layer = call.operation
    if not isinstance(layer, layers.Layer):
        return _operation_rule(call, stand_in)
    known = rule_of(layer)
    _, options = inputs_and_options(call)
    plain = set(options) <= {"training"} and known.is_known(layer)
    if known.reach is None or not plain:
        return _Rule(call, functools.partial(_connect_fully, call))
    affine = _bias_alone if known.affine is None else known.affine
    scale, shift = (
        None if x is None else np.abs(np.asarray(x, "float64"))
        for x in affine(layer, tuple(call.outputs[0].shape))
    )
    return _Rule(
        call,
        functools.partial(_run, known, call),
        known.kernels,
        constants=() if scale is None else (log(scale),),
        shift=log(shift) if shift is not None and shift.any() else None,
    )


def _operation_rule(call, stand_in):
    name = type(call.operation).__name__
    if operation_stand_in(call.operation) is None:
        return _Rule(call, functools.partial(_connect_fully, call))
    if name in ("Softmax", "LogSoftmax"):
        return _Rule(call, lambda xs, kernels: xs)
    if name == "Mean":
        share = math.prod(call.outputs[0].shape) / math.prod(call.inputs[0].shape)
        return _Rule(call, lambda xs, kernels: [y * share for y in stand_in(xs, [])])
    return _Rule(call, lambda xs, kernels: stand_in(xs, []))


def _run(known, call, xs, weights):
    count = len(known.kernels)
    kernels = dict(zip(known.kernels, weights[:count], strict=True))
    args, _ = inputs_and_options(call)
    args = filled(args, xs, lambda x: ops.ones(x.shape, "float32"))
    ys = keras.tree.flatten(
        (known.flow or known.reach)(call.operation, args, **kernels)
    )
    for scale in weights[count:]:
        ys = [ops.multiply(y, scale) for y in ys]
    return ys


def _connect_fully(call, xs, kernels):
    total = sum(ops.sum(x) for x in xs)
    return [ops.broadcast_to(total, out.shape) for out in call.outputs]


def _bias_alone(layer, shape):
    """`LayerRule.affine` of most layers: no scale, and the bias as the shift."""
    bias = getattr(layer, "bias", None)
    if not isinstance(bias, keras.Variable):
        return None, None
    values = _float64(bias)
    if getattr(layer, "data_format", None) == "channels_first":
        values = values.reshape(-1, *[1] * (len(shape) - 2))
    return None, values


def _by_key(kernels, weights):
    return {
        (id(k.layer), k.name): log(np.abs(w))
        for k, w in zip(kernels, weights, strict=True)
    }


def _absolute(variable):
    return log(np.abs(_float64(variable)))


def _float64(variable):
    return ops.convert_to_numpy(variable).astype("float64")


def _ones(x):
    # Logarithms, as everywhere here.
    return np.zeros(x.shape)


def _zeros(x):
    return np.full(x.shape, -np.inf)
