"""Rules of attention between projections.

Each output of a head depends on that entry of the values at all positions that are
attended to, and, since the weights of these are compared by a softmax, on all entries
of the head's query there and of its keys at all those positions.
"""

import functools

import numpy as np
from keras import layers, ops

from scl_keras.connectivity.composites import binarized
from scl_keras.connectivity.layer_rules import Composite, LayerRule, register_rule
from scl_keras.graph.walking import sublayers

_CALL = {"tensors": ("query", "value", "key"), "options": ("use_causal_mask",)}


def _multi_head(layer, query, value, key=None, use_causal_mask=False):
    ranks = {len(x.shape) for x in (query, value, key) if x is not None}
    if len(ranks) > 1 or not (ranks == {3} or _sees_all(layer, use_causal_mask)):
        return None
    axes = tuple(layer.attention_axes)
    return functools.partial(_run, layer, axes, use_causal_mask, 1)


register_rule(
    layers.MultiHeadAttention,
    rule=LayerRule(composite=Composite(_multi_head, **_CALL)),
)


def _grouped(layer, query, value, key=None, use_causal_mask=False):
    return functools.partial(_run, layer, (1,), use_causal_mask, layer.num_repeats)


register_rule(
    layers.GroupQueryAttention,
    rule=LayerRule(composite=Composite(_grouped, **_CALL)),
)


def _sees_all(layer, use_causal_mask):
    return not use_causal_mask and layer.get_config()["sliding_window"] is None


def _run(layer, axes, causal, repeats, masks, query, value, key=None):
    # The projections are told apart by their names: not all layers show them.
    inner = {x.name: x for x in sublayers(layer)}

    def project(name, x):
        projection = inner[name]
        kernel = masks[id(projection), "kernel"]
        return binarized(ops.einsum(projection.equation, x, kernel))

    q = project("query", query)
    k = project("key", value if key is None else key)
    v = project("value", value)
    k, v = (ops.repeat(x, repeats, axis=-2) if repeats > 1 else x for x in (k, v))
    k = ops.sum(k, axis=-1, keepdims=True)
    if _sees_all(layer, causal):
        k, v = (ops.sum(x, axis=axes, keepdims=True) for x in (k, v))
    else:
        seen = _seen(q.shape[1], v.shape[1], causal, layer.get_config())
        k, v = (ops.einsum("ts,bshd->bthd", seen, x) for x in (k, v))
    attended = v + k + ops.sum(q, axis=-1, keepdims=True)
    if "gate" in inner:
        attended = attended + project("gate", query)
    return [project("attention_output", binarized(attended))]


def _seen(targets, sources, causal, config):
    """Which sources each target sees: a 0/1 array `(targets, sources)`."""
    distance = np.arange(targets)[:, None] - np.arange(sources)
    seen = distance >= 0 if causal else np.ones(distance.shape, bool)
    if config["sliding_window"] is not None:
        seen &= np.abs(distance) < config["sliding_window"]
    return ops.convert_to_tensor(seen, "float32")
