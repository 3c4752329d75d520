"""Where masks have to switch channels so that `compact` can remove them."""

from scl_keras.connectivity.channel_rules import multiplied_channels
from scl_keras.connectivity.channels import channel_axis
from scl_keras.connectivity.graph_channels import GraphChannels
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operations import is_product
from scl_keras.graph.tracing import trace_one
from scl_keras.layers.followers import chains
from scl_keras.masks.granularity import Channel
from scl_keras.targets.placing import placed
from scl_keras.targets.zeros import zero_tensors

INPUT_AXIS = -2
INPUTS = Channel((INPUT_AXIS,))


class ChannelSwitches:
    """One switch for each channel that can be removed by itself.

    A channel is made by one layer, handed on by normalizations, activations and
    depthwise convolutions, and read by others. It is switched where it is read, if that
    is one place: there its gradient is alive also while it is cut. Otherwise it is
    switched where it is made. A layer has one mask, and so one switch: where its own
    channels need it, those that it reads are switched elsewhere if they can be.
    Channels that several layers make together, as the terms of a sum do, could only be
    removed if all of them agreed, and have no switch. Of the factors of a product one
    alone can have it, if the others lead nowhere else (squeeze and excite): where it is
    made, or in a depthwise convolution behind.

    Args:
        model: A functional or Sequential stock model with known sizes.
        excluded: Ids of layers that shall not have a switch.

    Attributes:
        of: Dict of granularities by the ids of layers.
        reasons: Dict of texts by the ids of layers: how each layer gets smaller, or
            why it doesn't.
        shrinks: Set of the ids of the layers that can get smaller.
    """

    def __init__(self, model, excluded=frozenset()):
        graph = trace_one(model)
        self._classes = GraphChannels(graph.inputs, graph.calls, graph.outputs)
        self._pinned = self._classes.always_kept
        self._outermost = {r for x in graph.outputs for r in self._roots(x)}
        kernels = [c for c in graph.calls if rule_of(c.operation).mixes_channels]
        self._made_by, self._read_by, self._called = {}, {}, {}
        for call in kernels:
            layer = call.operation
            self._called[id(layer)] = self._called.get(id(layer), 0) + 1
            for root in self._outputs(call):
                self._made_by.setdefault(root, {})[id(layer)] = layer
            for root in self._inputs(call):
                self._read_by.setdefault(root, {})[id(layer)] = layer
        self._excluded = excluded
        self.of, self.reasons, self.shrinks = {}, {}, set()
        self._switched = set()
        self._graph_calls, self._kernels = graph.calls, kernels
        self._calls = {id(call.operation): call for call in kernels}
        self._followers = {id(x): behind for x, behind in chains(model)}
        self._behind = {}  # calls of depthwise layers that switch, by ids of makers
        for call in self._switched_calls():
            self._explain_switch(call)
        for call in graph.calls:
            self._explain(call)

    def _roots(self, x):
        return self._classes.roots(self._classes.of[id(x)].ids).tolist()

    def _inputs(self, call):
        return self._roots(call.inputs[0])

    def _outputs(self, call):
        return set(self._roots(call.outputs[0]))

    def reads_only(self, layer, kind):
        """Whether all channels that a layer reads are made by layers of one type."""
        roots = self._inputs(self._calls[id(layer)])
        makers = [x for r in roots for x in self._made_by.get(r, {}).values()]
        return all(type(x) is kind for x in makers)

    def _reader(self, call):
        """The one layer that can switch what a call makes, where it reads it."""
        readers = {}
        for root in self._outputs(call):
            readers |= self._read_by.get(root, {})
        if len(readers) != 1:
            return None
        (reader,) = readers.values()
        reading = self._calls[id(reader)]
        inputs = self._inputs(reading)
        x = reading.inputs[0]
        alone = all(len(self._read_by[root]) == 1 for root in inputs)
        if (
            id(reader) in self._excluded
            or not alone
            or len(set(inputs)) != len(inputs)
            or self._pinned & set(inputs)
            or self._called[id(reader)] != 1
            or rule_of(reader).input_axis != INPUT_AXIS
            or self._classes.of[id(x)].axis != channel_axis(reader, len(x.shape))
        ):
            return None
        return reader

    def _problem(self, call):
        """Why the channels that a call makes can't be removed, or None."""
        roots = self._outputs(call)
        if self._outermost & roots:
            return "its own are the model's outputs"
        if self._pinned & roots:
            return f"its own {self._classes.reason(sorted(roots))}"
        if (layer := self._reads_in_groups(roots)) is not None:
            title = f"'{layer.name}' ({type(layer).__name__})"
            return f"its own only go with as many in each group of {title}"
        channels = self._roots(call.outputs[0])
        if len(set(channels)) < len(channels):
            return "several of its own become one channel: they go together only"
        if self._called[id(call.operation)] != 1:
            return "it is shared: what it makes is needed in several places"
        return None

    def _together(self, call):
        """Why the channels that a call makes can't have a switch alone, or None."""
        roots, others = self._outputs(call), self._made_with(call)
        if not others or self._switches_all(call, roots):
            return None
        for behind in self._graph_calls:
            layer = behind.operation
            if (
                rule_of(layer).channels is multiplied_channels
                and layer.depth_multiplier == 1
                and id(layer) not in self._excluded
                and set(self._roots(behind.outputs[0])) == roots
                and self._switches_all(behind, roots)
            ):
                self._behind[id(call.operation)] = behind
                return None
        how = "multiplied by" if self._are_factors(roots) else "added to"
        return f"its own are {how} those of '{others[0].name}': go together only"

    def _made_with(self, call):
        """The other layers that make the same channels."""
        makers = {
            id(x): x for r in self._outputs(call) for x in self._made_by[r].values()
        }
        return [x for x in makers.values() if x is not call.operation]

    def _switches_all(self, call, roots):
        """Whether all that reads some channels reads zero where a call's are off."""
        behind = {id(x) for x in self._followers.get(id(call.operation), [])}
        zero = zero_tensors(call, self._graph_calls, behind)
        return all(
            id(reader.inputs[0]) in zero
            for reader in self._kernels
            if roots & set(self._inputs(reader))
        )

    def _are_factors(self, roots):
        return any(
            is_product(call.operation) and roots & set(self._roots(call.outputs[0]))
            for call in self._graph_calls
        )

    def _reads_in_groups(self, roots):
        """A layer that reads or makes some channels in groups, or None."""
        for root in roots:
            for found in (self._made_by, self._read_by):
                for layer in found.get(root, {}).values():
                    if rule_of(layer).groups(layer) > 1:
                        return layer
        return None

    def _switched_calls(self):
        """Chooses switches, writes them down, and returns whose channels have one."""
        readers, makers, switched = {}, set(), set()
        for call in self._kernels:
            key, roots = id(call.operation), self._outputs(call)
            if roots & switched:  # by another factor's layer: `_explain_switch` tells
                continue
            if problem := self._problem(call) or self._together(call):
                self.reasons[key] = problem
                continue
            self.reasons[key] = "its own have no mask left to switch them"
            switched |= roots
            if key in self._behind:
                continue
            if (reader := self._reader(call)) is not None:
                readers[key] = id(reader)
            if key not in self._excluded:
                makers.add(key)
        self._places = placed(list(self._calls), readers, makers)
        for key, at in self._places.items():
            self.of[at] = Channel() if at == key else INPUTS
        for key, behind in self._behind.items():
            self._places[key] = id(behind.operation)
            self.of[id(behind.operation)] = Channel()
            self._calls[id(behind.operation)] = behind
        return [self._calls[key] for key in list(self._calls) if key in self._places]

    def _explain_switch(self, call):
        layer = call.operation
        at = self._places[id(layer)]
        self.reasons[id(layer)] = (
            "switches channels that it makes"
            if at == id(layer)
            else f"its own are switched by '{self._calls[at].operation.name}'"
        )
        self.shrinks.add(id(layer))
        self._switched.add(id(layer))
        for other in self._made_with(call):
            self.reasons[id(other)] = f"its own go with those of '{layer.name}'"
            self.shrinks.add(id(other))
        for root in self._outputs(call):
            self.shrinks.update(self._read_by.get(root, {}))

    def _explain(self, call):
        """What the other layers do, and those that switch what they read."""
        layer = call.operation
        if self.of.get(id(layer)) == INPUTS:
            own = self.reasons.get(id(layer))
            self.reasons[id(layer)] = "switches channels that it reads" + (
                f"; {own}" if own else ""
            )
        elif rule_of(layer).channels is multiplied_channels:
            if id(layer) in self.of:
                self.reasons[id(layer)] = "switches channels that it makes"
                self.shrinks.add(id(layer))
                return
            made = self._roots(call.outputs[0])
            makers = [x for r in made for x in self._made_by.get(r, {}).values()]
            if any(id(x) in self._switched for x in makers):
                self.shrinks.add(id(layer))
                self.reasons[id(layer)] = f"has the channels of '{makers[0].name}'"
            else:
                self.reasons[id(layer)] = "the channels that it is given all stay"
        elif id(layer) not in self.reasons:
            self.reasons[id(layer)] = "compaction doesn't take such layers apart"
