"""Which channels of a graph's tensors can only be removed together."""

import keras

from scl_keras.connectivity.channel_rules import new_channels, unknown_channels
from scl_keras.connectivity.channels import ChannelClasses
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operation_channels import operation_rule
from scl_keras.graph.arguments import inputs_and_options, reads_constants
from scl_keras.graph.walking import is_rewired


class GraphChannels(ChannelClasses):
    """Classes of channels that stay or go together, all through a graph.

    A layer with a kernel makes new channels. Elementwise layers, pooling and the like
    hand them on, so that a channel and all that is made of it are one class. A sum
    makes one class of its terms' channels, a shared layer makes one of those of all its
    calls, and `Flatten` makes a channel a whole lot of entries. A reshape that makes
    one channel of several makes one class of them. Of other operations it
    isn't known whether they leave room for removing some of their inputs: these are
    pinned, and stay. So are those within custom layers, which stay as they are.

    Args:
        inputs: List of the graph's input tensors.
        calls: List of the `Call` objects, without masked layers.
        outputs: List of the graph's output tensors.
        dropped: Set of pairs of a call's id and a tensor's id: inputs that a sum shall
            not read any more.

    Attributes:
        of: `Channels` by the ids of the graph's tensors.
    """

    def __init__(self, inputs, calls, outputs, dropped=frozenset()):
        super().__init__()
        self._first, self._dropped, self.of = {}, dropped, {}
        for x in inputs:
            self.of[id(x)] = self.pinned(
                x, f"go together with those of input '{x.name}'"
            )
        for call in calls:
            self._add(call)
        for x in outputs:
            self.pin(self.of[id(x)].ids, "are the model's outputs")

    def _add(self, call):
        read = [x for x in call.inputs if (id(call), id(x)) not in self._dropped]
        xs = [self.of[id(x)] for x in read]
        outputs = _channels_function(call)(self, call, xs)
        if outputs is None:
            title = _title(call)
            for x in xs:
                self.pin(
                    x.ids, f"go through {title}, where compaction can't follow them"
                )
            reason = f"stay: compaction can't follow what {title} makes"
            outputs = [self.pinned(x, reason) for x in call.outputs]
        for x, channels in zip(call.outputs, outputs, strict=True):
            self.of[id(x)] = channels
        if getattr(call.operation, "weights", None):
            self._share(call.operation, [*xs, *outputs])

    def _share(self, layer, channels):
        """All calls of a layer with weights keep the same of its channels."""
        first = self._first.setdefault(id(layer), channels)
        for a, b in zip(first, channels, strict=True):
            if len(a.ids) == len(b.ids):
                self.unite(a.ids, b.ids)
            else:
                reason = f"go through '{layer.name}', which gets them in several shapes"
                self.pin(a.ids, reason)
                self.pin(b.ids, reason)


def _channels_function(call):
    """The function of `channel_rules` for a call."""
    operation = call.operation
    if not isinstance(operation, keras.layers.Layer) and call.within is None:
        known = operation_rule(operation)
        return known.channels if known else unknown_channels
    rule = rule_of(operation)
    if (
        call.within is not None
        or inputs_and_options(call)[1]
        or reads_constants(call)
        or is_rewired(operation)
        or (operation.weights and rule.shrink is None)
        or (rule.mixes_channels and not rule.is_known(operation))
    ):
        return unknown_channels
    default = new_channels if rule.mixes_channels else unknown_channels
    return rule.channels or default


def _title(call):
    """A call's operation as a user knows it, and what it was called with besides."""
    outermost = call if call.within is None else call.within
    operation = outermost.operation
    title = f"'{operation.name}' ({type(operation).__name__})"
    options = {}
    if isinstance(operation, keras.layers.Layer):
        _, options = inputs_and_options(outermost)
    if not options:
        return title
    given = [
        f"{name}={x}" if isinstance(x, (bool, int, float, str)) else str(name)
        for name, x in options.items()
    ]
    return f"{title}, called with {', '.join(given)}"
