"""Dead channels that `compact` leaves, and why."""

import keras
import numpy as np
from keras import ops

from scl_keras.connectivity.channels import channel_axis
from scl_keras.connectivity.graph_channels import GraphChannels
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.reachability import ConnectionGraph


def staying_channels(model: keras.Model) -> dict[str, str]:
    """Which layers make dead channels, and why they stay.

    Args:
        model: A functional or Sequential stock model: what `compact` has returned.

    Returns:
        A dict from the names of layers with kernels to texts such as "3 of 64 stay:
        they go through 'lambda' (Lambda), where compaction can't follow them"; empty
        where the model leaves sizes open, on which it depends what is dead.
    """
    if any(None in x.shape[1:] for x in model.inputs):
        return {}
    graph = ConnectionGraph(model)
    reach = graph.spread()
    trace = graph.trace
    classes = GraphChannels(trace.inputs, trace.calls, trace.outputs)
    makers = [
        call
        for call in trace.calls
        if call.within is None and _makes_channels(call.operation)
    ]
    dead = [~_live(call, reach) for call in makers]
    live = {
        root
        for call, flags in zip(makers, dead, strict=True)
        for root in classes.roots(_ids(call, classes, ~flags)).tolist()
    }
    groups = _read_in_groups(trace.calls, classes)
    found: dict[str, str] = {}
    for call, flags in zip(makers, dead, strict=True):
        if flags.any():
            ids = _ids(call, classes, flags)
            reason = classes.reason(ids) or _reason(classes.roots(ids), groups, live)
            text = f"{flags.sum()} of {len(flags)} stay: they {reason}"
            found.setdefault(call.operation.name, text)
    return found


def _makes_channels(layer):
    rule = rule_of(layer)
    return rule.mixes_channels or (
        bool(getattr(layer, "weights", ())) and rule.channels is None
    )


def _axis(call):
    return channel_axis(call.operation, len(call.outputs[0].shape))


def _live(call, reach):
    """Which channels of a call's output lie, somewhere, on a path."""
    (key, shape), axis = (id(call.outputs[0]), call.outputs[0].shape), _axis(call)
    if key not in reach.needed:
        return np.zeros(shape[axis], bool)
    live = np.ones(shape[axis], bool)
    for found in (reach.reached[key], reach.needed[key]):
        flags = np.moveaxis(ops.convert_to_numpy(found) > 0, axis, 0)
        live &= flags.reshape(len(flags), -1).any(1)
    return live


def _ids(call, classes, flags):
    channels = classes.of[id(call.outputs[0])]
    return channels.ids[flags] if channels.axis == _axis(call) else channels.ids


def _read_in_groups(calls, classes):
    """Titles of the layers that read or make channels in groups, by their classes."""
    titles = {}
    for call in calls:
        layer = call.operation
        if call.within is None and rule_of(layer).groups(layer) > 1:
            title = f"'{layer.name}' ({type(layer).__name__})"
            for x in (call.inputs[0], call.outputs[0]):
                roots = classes.roots(classes.of[id(x)].ids).tolist()
                titles |= dict.fromkeys(roots, title)
    return titles


def _reason(roots, groups, live):
    roots = roots.tolist()
    title = next((groups[root] for root in roots if root in groups), None)
    if title is not None:
        return f"only go with as many in each group of {title}"
    if not live.isdisjoint(roots):
        return "only go together with others, which are needed"
    return "are constants that the biases behind them can't take up"
