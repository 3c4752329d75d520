"""Makes a model physically smaller by removing its dead units, filters and channels."""

import keras
import numpy as np
from keras import layers

from scl_keras.connectivity import shrinking
from scl_keras.connectivity.channels import ChannelClasses
from scl_keras.connectivity.reachability import ConnectionGraph
from scl_keras.conversion import strip_masks
from scl_keras.graph import is_graph


def compact(model, input_shapes=None):
    """Removes dead units, filters and channels, so that dense arrays get smaller.

    A unit is removed if no path leads from it to an output, or none from an input to it
    (see `ConnectionGraph`). In the latter case it is a constant, which goes into the
    biases of the layers that read it; where that isn't exact, such as in front of a
    convolution that pads with zeros, the unit stays. Units that are added up,
    multiplied or go through one shared layer stay or go together. Operations that
    aren't known, normalization over channels and convolutions in groups keep all of
    their channels. Terms of an `Add` that are zero are dropped with all that makes
    them.

    Args:
        model: A functional or Sequential model: an SCL model, a pruned one, or any with
            zeros in its kernels. It isn't touched.
        input_shapes: Shapes of the inputs without the batch axis, where the model
            leaves sizes open; the result then takes these sizes only.

    Returns:
        A functional stock Keras model that computes the same up to rounding, with the
        same inputs and outputs, and nested models dissolved into their layers.

    Raises:
        ValueError: If the model isn't built or is subclassed, if sizes are missing, or
            if no path is left from the inputs to any output.

    Example:

    ```python
    small = compact(sparse_model)
    print(compaction_report(sparse_model, small))
    ```
    """
    if not is_graph(model):
        raise ValueError(
            "`compact` needs a built functional or Sequential Keras model. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    stock = strip_masks(model)
    plan = _Plan(ConnectionGraph(stock, input_shapes))
    return _Builder(stock, plan).build()


class _Plan:
    """What stays of a graph, and which constants go into which biases.

    Args:
        graph: `ConnectionGraph` of a stock model that is given up: the kernels of units
            that go are overwritten with zeros.
    """

    def __init__(self, graph):
        self.trace = graph.trace
        self._spread(graph)
        if not any(self._reached[id(x)].any() for x in self.trace.outputs):
            raise ValueError(
                "No path is left from the model's inputs to its outputs: it computes a "
                "constant. `compact` needs a model with some connections left."
            )
        self._values = _evaluate(graph.trace)
        self.dropped = self._zero_terms()
        self.calls = self._used_calls()
        self._uses = {}
        for call in self.calls:
            self._uses.setdefault(id(call.operation), []).append(call)
        classes = ChannelClasses(
            self.trace.inputs, self.calls, self.trace.outputs, self.dropped
        )
        self.axes = {key: x.axis for key, x in classes.of.items()}
        self._roots = {key: classes.roots(x.ids) for key, x in classes.of.items()}
        self._kept, before = {int(r) for x in self._roots.values() for r in x}, None
        while self._kept != before:
            before = self._kept
            self._kept = set(classes.always_kept)
            self._keep_live()
            self._keep_what_does_not_fold()
            self._keep_one_input(before)
            # Units that were cut off don't come back: less and less is live.
            assert self._kept <= before
            # What only units read that are constants, and go, isn't needed any more.
            self._cut_off_removed()
            self._spread(graph)

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

    def _spread(self, graph):
        reach = graph.spread()
        self._reached = {key: x.numpy() > 0 for key, x in reach.reached.items()}
        self._needed = {key: x.numpy() > 0 for key, x in reach.needed.items()}

    def _cut_off_removed(self):
        for call in self.calls:
            if shrinking.reads_all_channels(call.operation):
                shrinking.cut_off(call.operation, self.kept(call.outputs[0]))

    def _zero_terms(self):
        """Terms of sums that are zero for any input, as pairs of ids."""
        dropped = set()
        for call in self.trace.calls:
            if type(call.operation) is layers.Add:
                shape = call.outputs[0].shape
                zero = {
                    id(x)
                    for x in call.inputs
                    if x.shape == shape
                    and not self._reached[id(x)].any()
                    and not self._values[id(x)].any()
                }
                if len(zero) < len({id(x) for x in call.inputs}):
                    dropped |= {(id(call), x) for x in zero}
        return dropped

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
            if shrinking.reads_all_channels(call.operation):
                (x,) = call.inputs
                stays = self._is_constant(x) & ~self._folds(call, x)
                self._kept.update(self._roots[id(x)][stays].tolist())

    def _folds(self, call, x):
        """Which channels add the same to all positions of a layer's output."""
        values = self._slices(x, self._values[id(x)])
        zero = ~values.any(1)
        once = len(self._uses[id(call.operation)]) == 1
        if not once or not shrinking.keeps_uniform(call.operation):
            return zero
        return zero | np.isclose(values, values[:, :1], rtol=1e-6, atol=0).all(1)

    def _keep_one_input(self, before):
        """No layer is left without inputs."""
        changed = True
        while changed:
            changed = False
            for call in self.calls:
                if shrinking.reads_all_channels(call.operation):
                    (x,), (out,) = call.inputs, call.outputs
                    if self.kept(out).any() and not self.kept(x).any():
                        roots = self._roots[id(x)].tolist()
                        known = [root for root in roots if root in before]
                        self._kept.add(known[0])
                        changed = True


class _Builder:
    """Builds the smaller model from the parts of a stock model that is given up."""

    def __init__(self, stock, plan):
        self.stock, self.plan = stock, plan
        self._layers, self._tensors = {}, {}
        self._names = {x.name for x in stock.inputs}

    def build(self):
        trace = self.plan.trace
        inputs = []
        for own, x in zip(self.stock.inputs, trace.inputs, strict=True):
            shape = (own.shape[0], *x.shape[1:])
            inputs.append(
                keras.Input(batch_shape=shape, dtype=own.dtype, name=own.name)
            )
            self._tensors[id(x)] = inputs[-1]
        for call in self.plan.calls:
            if any(self.plan.kept(out).any() for out in call.outputs):
                outputs = keras.tree.flatten(self._make(call))
                for out, y in zip(call.outputs, outputs, strict=True):
                    self._tensors[id(out)] = y
        outputs = [self._tensors[id(x)] for x in trace.outputs]
        if isinstance(self.stock, keras.Sequential):  # `input` is not its own
            (inputs,), (outputs,) = inputs, outputs
        else:
            inputs = keras.tree.pack_sequence_as(self.stock.input, inputs)
            outputs = keras.tree.pack_sequence_as(self.stock.output, outputs)
        return keras.Model(inputs, outputs, name=self.stock.name)

    def _make(self, call):
        """Makes a call on the new tensors."""
        if type(call.operation) in (layers.Add, layers.Concatenate):
            read = [self._tensors.get(id(x)) for x in self.plan.read(call)]
            read = [x for x in read if x is not None]
            if len(read) > 1:
                return self._layer(call)(read)
            if any(call.outputs[0] is x for x in self.plan.trace.outputs):
                return layers.Identity(name=self._name(call.operation))(read[0])
            return read[0]
        args, kwargs = keras.tree.map_structure(
            lambda x: self._tensors[id(x)] if isinstance(x, keras.KerasTensor) else x,
            (call.args, call.kwargs),
        )
        return self._layer(call)(*args, **kwargs)

    def _layer(self, call):
        """The layer or operation itself, or a smaller one."""
        old = call.operation
        # Without weights there is nothing to share, and shapes may differ.
        key = id(old) if getattr(old, "weights", None) else id(call)
        if key not in self._layers:
            self._layers[key] = self._smaller(call)
        return self._layers[key]

    def _smaller(self, call):
        old, plan = call.operation, self.plan
        sources, outputs = plan.read(call), call.outputs
        name = self._name(old)
        whole = all(plan.kept(x).all() for x in (*sources, *outputs))
        if not isinstance(old, keras.layers.Layer) or whole:
            if name == old.name:
                return old
            new = type(old).from_config({**old.get_config(), "name": name})
            weights = getattr(old, "weights", None) and old.get_weights()
            return new if not weights else _WithWeights(new, weights)
        kept, axis = plan.kept(outputs[0]), plan.axes[id(outputs[0])]
        shape = list(outputs[0].shape)
        shape[axis] = int(kept.sum())
        shift = None
        if shrinking.reads_all_channels(old):
            constants = plan.constants(call)
            if constants.any():
                shift = shrinking.shift_of(old, constants, axis)
        changes, weights = shrinking.shrink(
            old, plan.kept(sources[0]), kept, shape[1:], axis, shift
        )
        new = type(old).from_config({**old.get_config(), **changes, "name": name})
        return _WithWeights(new, weights) if weights else new

    def _name(self, operation):
        """The operation's name, or a new one where models were dissolved into one."""
        name, count = operation.name, 1
        while name in self._names:
            name, count = f"{operation.name}_{count}", count + 1
        self._names.add(name)
        return name


class _WithWeights:
    """A new layer that gets its weights as soon as it is built."""

    def __init__(self, layer, weights):
        self.layer, self.weights = layer, weights

    def __call__(self, *args, **kwargs):
        built = self.layer.built
        outputs = self.layer(*args, **kwargs)
        if not built:
            self.layer.set_weights(self.weights)
        return outputs


def _evaluate(trace):
    """The tensors of a graph for an input of zeros, as arrays by the tensors' ids.

    Where no input reaches, they are what they are for any input.
    """
    values = {id(x): keras.ops.zeros(x.shape, x.dtype) for x in trace.inputs}
    for call in trace.calls:
        args, kwargs = keras.tree.map_structure(
            lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x,
            (call.args, call.kwargs),
        )
        outputs = keras.tree.flatten(call.operation(*args, **kwargs))
        for out, value in zip(call.outputs, outputs, strict=True):
            values[id(out)] = value
    return {key: keras.ops.convert_to_numpy(x) for key, x in values.items()}
