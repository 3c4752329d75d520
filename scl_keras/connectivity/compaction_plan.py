"""What can be removed from a graph, and where constants go."""

import keras
import numpy as np
from keras import ops

from scl_keras.connectivity.graph_channels import GraphChannels
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.graph.arguments import reads_constants


class CompactionPlan:
    """What stays of a graph, and which constants go into which biases.

    Args:
        graph: `ConnectionGraph` of a stock model.
    """

    def __init__(self, graph):
        self._graph, self.trace = graph, graph.trace
        # The connections that are left, one boolean array a kernel of the graph.
        self._left = [np.array(kernel.kept()) for kernel in graph.kernels]
        self._varying = set()
        self._values = _evaluate(graph.trace)
        self._spread()
        if not any(self._reached[id(x)].any() for x in self.trace.outputs):
            raise ValueError(
                "No path is left from the model's inputs to its outputs: it computes a "
                "constant. `compact` needs a model with some connections left."
            )
        # What may be another one each time is no constant, whatever reaches it.
        self._varying = {id(step.call) for step in graph.steps if step.may_vary}
        if self._varying:
            self._spread()
        self.dropped: set[tuple[int, int]] = set()
        self.calls, self._kept = self.trace.calls, None
        zero = self._zero_terms()
        while zero or self._kept is None:
            self.dropped |= zero
            self._settle()
            # What a term was needed for may be gone, and what is left of it be zero.
            zero = self._zero_terms()

    def _settle(self):
        """Finds what stays of what has stayed so far, given the terms dropped."""
        stayed = None
        if self._kept is not None:
            tensors = [x for call in self.calls for x in (*call.inputs, *call.outputs)]
            stayed = {id(x): self.kept(x) for x in (*self.trace.inputs, *tensors)}
        self.calls = self._used_calls()
        self._uses = {}
        for call in self.calls:
            self._uses.setdefault(id(call.operation), []).append(call)
        classes = GraphChannels(
            self.trace.inputs, self.calls, self.trace.outputs, self.dropped
        )
        self.axes = {key: x.axis for key, x in classes.of.items()}
        self._roots = {key: classes.roots(x.ids) for key, x in classes.of.items()}
        self._kept, before = set(), None
        for key, roots in self._roots.items():
            known = roots if stayed is None else roots[stayed[key]]
            self._kept.update(known.tolist())
        while self._kept != before:
            before = self._kept
            self._kept = set(classes.always_kept)
            self._keep_live()
            self._keep_what_does_not_fold()
            self._keep_as_many_of_each_group(before)
            # Units that were cut off don't come back: less and less is live.
            assert self._kept <= before
            # What only units read that are constants, and go, isn't needed any more.
            self._cut_off_removed()
            self._spread()

    def kept(self, x):
        """Which channels of a tensor stay: a boolean array."""
        return np.isin(self._roots[id(x)], list(self._kept))

    def read(self, call):
        """The tensors that a call goes on reading."""
        return [x for x in call.inputs if (id(call), id(x)) not in self.dropped]

    def constants(self, call):
        """The removed constants among a call's input: an array of its shape."""
        (x,) = call.inputs
        folded = self._is_constant(x) & ~self.kept(x)
        shape = [-1 if axis == self.axes[id(x)] else 1 for axis in range(len(x.shape))]
        return np.where(folded.reshape(shape), self._values[id(x)], 0)

    def _spread(self):
        reach = self._graph.spread(self._left, self._varying, self._values)
        self._reached = {
            key: ops.convert_to_numpy(x) > 0 for key, x in reach.reached.items()
        }
        self._needed = {
            key: ops.convert_to_numpy(x) > 0 for key, x in reach.needed.items()
        }

    def _cut_off_removed(self):
        """Leaves only connections to units that stay.

        Kernels without a masked twin aren't in the graph's list, and stay as they are:
        at worst some more constants stay in front of them.
        """
        units = {}
        for call in self.calls:
            rule, kept = rule_of(call.operation), self.kept(call.outputs[0])
            if _mixes_channels(call) and not kept.all():
                units[id(call.operation), rule.kernels[-1]] = kept
        for kernel, left in zip(self._graph.kernels, self._left, strict=True):
            kept = units.get((id(kernel.layer), kernel.name))
            if kept is not None and len(kernel.feature_axes) == 1:
                np.moveaxis(left, kernel.feature_axes[0], -1)[..., ~kept] = False

    def _zero_terms(self):
        """Terms of sums that are zero for any input, more of them, as pairs of ids."""
        found = set()
        for call in self.calls:
            rule = rule_of(call.operation)
            if rule.is_sum and call.within is None and not reads_constants(call):
                shape = call.outputs[0].shape
                whole = [x for x in self.read(call) if x.shape == shape]
                zero = [x for x in whole if self._is_zero(x)]
                # The others may have to be broadcast: one of the sum's shape stays.
                terms = zero[1:] if len(zero) == len(whole) else zero
                found |= {(id(call), id(x)) for x in terms}
        return found

    def _is_zero(self, x):
        """Whether all that stays of a tensor is zero for any input."""
        reached, values = self._reached[id(x)], self._values[id(x)]
        if self._kept is not None:
            kept = self.kept(x)
            reached, values = (self._slices(x, y)[kept] for y in (reached, values))
        return not reached.any() and not values.any()

    def _used_calls(self):
        used, calls = {id(x) for x in self.trace.outputs}, []
        for call in reversed(self.trace.calls):
            if any(id(out) in used for out in call.outputs):
                used |= {id(x) for x in self.read(call)}
                calls.append(call)
        return calls[::-1]

    def _along(self, x, flags):
        """Whether any entry of each channel of a tensor is flagged."""
        if id(x) not in flags:
            return np.zeros(len(self._roots[id(x)]), bool)
        return self._slices(x, flags[id(x)]).any(1)

    def _slices(self, x, values):
        values = np.moveaxis(values, self.axes[id(x)], 0)
        return values.reshape(len(values), -1)

    def _is_constant(self, x):
        """Which channels matter, but don't depend on the inputs."""
        return self._along(x, self._needed) & ~self._along(x, self._reached)

    def _keep_live(self):
        for call in self.calls:
            for out in call.outputs:
                live = self._along(out, self._needed) & self._along(out, self._reached)
                self._kept.update(self._roots[id(out)][live].tolist())

    def _keep_what_does_not_fold(self):
        for call in self.calls:
            if _mixes_channels(call):
                (x,) = call.inputs
                stays = self._is_constant(x) & ~self._folds(call, x)
                self._kept.update(self._roots[id(x)][stays].tolist())

    def _folds(self, call, x):
        """Which channels add the same to all positions of a layer's output."""
        values = self._slices(x, self._values[id(x)])
        zero = ~values.any(1)
        once = len(self._uses[id(call.operation)]) == 1
        if not once or not rule_of(call.operation).folds_constants(call.operation):
            return zero
        return zero | np.isclose(values, values[:, :1], rtol=1e-6, atol=0).all(1)

    def _keep_as_many_of_each_group(self, before):
        """Groups that don't go keep as many channels each, and one input at least.

        Of those that could go, any may stay: here the first, of those that were kept
        before.
        """
        changed = True
        while changed:
            changed = False
            for call in self.calls:
                if _mixes_channels(call) and self.kept(call.outputs[0]).any():
                    missing = self._missing(call, before)
                    self._kept.update(missing)
                    changed = changed or bool(missing)

    def _missing(self, call, before):
        """Classes that have to stay, too, for a call's groups to be of one size."""
        (x,), (out,) = call.inputs, call.outputs
        groups = rule_of(call.operation).groups(call.operation)
        kept = [np.split(self.kept(y), groups) for y in (x, out)]
        stays = [x.any() or y.any() for x, y in zip(*kept, strict=True)]
        missing = set()
        for y, parts in zip((x, out), kept, strict=True):
            size = max(1, *(int(part.sum()) for part in parts))
            for roots, part, left in zip(
                np.split(self._roots[id(y)], groups), parts, stays, strict=True
            ):
                if left:
                    spare = [r for r in roots[~part].tolist() if r in before]
                    missing.update(spare[: size - int(part.sum())])
        return missing


def _mixes_channels(call):
    return rule_of(call.operation).mixes_channels and call.within is None


def _evaluate(trace):
    """The tensors of a graph for an input of zeros, as arrays by the tensors' ids.

    Where no input reaches, they are what they are for any input.
    """
    values = {id(x): keras.ops.zeros(x.shape, x.dtype) for x in trace.inputs}
    with keras.StatelessScope():  # a state that a layer has, it keeps
        for call in trace.calls:
            args, kwargs = keras.tree.map_structure(
                lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x,
                (call.args, call.kwargs),
            )
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
            for out, value in zip(call.outputs, outputs, strict=True):
                if len(value.shape) != len(out.shape):  # such as of TextVectorization
                    raise ValueError(
                        f"`compact` can't follow '{call.operation.name}' "
                        f"({type(call.operation).__name__}): it announces an output of "
                        f"{len(out.shape)} axes, and makes one of {len(value.shape)}. "
                        "Leave it out of the model, and compact the rest. "
                        f"Received: shapes {out.shape} and {tuple(value.shape)}"
                    )
                values[id(out)] = value
    return {key: keras.ops.convert_to_numpy(x) for key, x in values.items()}
