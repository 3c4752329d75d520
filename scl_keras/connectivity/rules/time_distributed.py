"""The rule of a layer or model that is applied to each time step alike."""

import functools

import keras
from keras import layers, ops

from scl_keras.connectivity.composites import binarized
from scl_keras.connectivity.layer_rules import Composite, LayerRule, register_rule
from scl_keras.connectivity.steps import needs_entering, steps_of
from scl_keras.graph.tracing import trace_call


def _time_distributed(layer, inputs):
    # The steps of all samples as if they were samples.
    batch, length, *shape = inputs.shape
    if None in inputs.shape:
        return None
    x = keras.Input(batch_shape=(batch * length, *shape), dtype=inputs.dtype)
    graph = trace_call(layer.layer, x, needs_entering)
    steps = steps_of(graph.calls)
    if any(step.unknown for step in steps) or len(graph.outputs) != 1:
        return None
    return functools.partial(_run, graph, steps)


register_rule(
    layers.TimeDistributed,
    rule=LayerRule(composite=Composite(_time_distributed, tensors=("inputs",))),
)


def _run(graph, steps, masks, inputs):
    batch, length, *shape = inputs.shape
    found = {id(graph.inputs[0]): ops.reshape(inputs, (batch * length, *shape))}
    for step in steps:
        kernels = [masks[id(layer), name] for layer, name in step.kernels]
        xs = [found[id(x)] for x in step.call.inputs]
        for out, y in zip(step.call.outputs, step.function(xs, kernels), strict=True):
            found[id(out)] = binarized(y)
    y = found[id(graph.outputs[0])]
    return [ops.reshape(y, (batch, length, *y.shape[1:]))]
