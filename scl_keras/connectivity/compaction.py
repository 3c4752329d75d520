"""Makes a model physically smaller by removing its dead units, filters and channels."""

from collections.abc import Sequence

import keras
from keras import layers

from scl_keras.connectivity import shrinking
from scl_keras.connectivity.compaction_plan import CompactionPlan
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operation_channels import operation_rule
from scl_keras.connectivity.operations import is_concatenation
from scl_keras.connectivity.reachability import ConnectionGraph
from scl_keras.conversion.copying import copy_layer, copy_state
from scl_keras.conversion.strip import stripped
from scl_keras.graph.arguments import reads_constants
from scl_keras.graph.inputs import input_like
from scl_keras.graph.walking import is_graph


def compact(
    model: keras.Model,
    input_shapes: Sequence | None = None,
    keep_open: bool = False,
) -> keras.Model:
    """Removes dead units, filters and channels, so that dense arrays get smaller.

    A unit is removed if no path leads from it to an output, or none from an input to it
    (see `ConnectionGraph`). In the latter case the unit is a constant, which moves into
    the biases of the layers that read it. Where that isn't exact, such as before a
    convolution that pads with zeros, the unit stays. Units that are added up,
    multiplied or go through one shared layer stay or go together. If one factor of a
    product is always zero, its other factors lead nowhere (squeeze and excite); a
    constant that isn't zero stays. `keras.ops.split`, slices (`x[..., :8]`) and
    concatenation are followed part by part. Terms of an `Add` that are zero are dropped
    together with everything that makes them. Stateful layers start from zeros, as in a
    model that was just loaded.

    Where a reshape makes one channel of several units, by layers, by `keras.ops` or by
    `depth_to_space` (PixelShuffle, the image that a generator makes of units), these go
    together. If the image has no more channels than a pixel becomes pixels a side, they
    stay. A grouped convolution loses whole groups if nothing else needs their channels,
    and equally many channels in each remaining group.

    All other layers keep the channels that they read and make: recurrent layers,
    attention, wrappers, unknown operations (`Lambda`), slices with steps, and
    normalization over channels. `compaction_report` tells which dead channels of which
    layers stay, and why.

    Args:
        model: A functional or Sequential model: an SCL model, a pruned one, or any with
            zeros in its kernels. It isn't touched.
        input_shapes: Shapes of the inputs without the batch axis, where the model
            leaves sizes open; the result then takes these sizes only.
        keep_open: Whether the result instead leaves the same sizes open as the model.
            What is dead at these sizes need not be dead at others (for example, where a
            kernel is as wide as the input and its padding): compare the two models
            there.

    Returns:
        A functional stock Keras model that computes the same up to rounding, with the
        same inputs and outputs, and nested models dissolved into their layers.

    Raises:
        ValueError: If the model isn't built or is subclassed, if sizes are missing, if
            no path is left from the inputs to any output, or if a layer makes another
            number of axes than it announces.

    Example:

    ```python
    small = compact(model)
    print(compaction_report(model, small))
    ```
    """
    if not is_graph(model):
        raise ValueError(
            "`compact` needs a built functional or Sequential Keras model. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    with stripped(model) as stock:
        plan = CompactionPlan(ConnectionGraph(stock, input_shapes))
        return _Builder(stock, plan, keep_open).build()


class _Builder:
    """Builds the smaller model of new layers, since those of the old stay its own."""

    def __init__(self, stock, plan, keep_open):
        self.stock, self.plan, self.keep_open = stock, plan, keep_open
        self._layers, self._tensors = {}, {}
        self._names = {x.name for x in stock.inputs}

    def build(self):
        trace = self.plan.trace
        inputs = []
        for own, x in zip(self.stock.inputs, trace.inputs, strict=True):
            shape = own.shape if self.keep_open else (own.shape[0], *x.shape[1:])
            inputs.append(input_like(own, shape))
            self._tensors[id(x)] = inputs[-1]
        for call in self._whole_calls():
            if any(self.plan.kept(out).any() for out in call.outputs):
                outputs = keras.tree.flatten(self._make(call))
                for out, y in zip(call.outputs, outputs, strict=True):
                    if self.plan.kept(out).any():  # else a part of no channels
                        self._tensors[id(out)] = y
        outputs = [self._tensors[id(x)] for x in trace.outputs]
        if isinstance(self.stock, keras.Sequential):  # `input` is not its own
            (inputs,), (outputs,) = inputs, outputs
        else:
            inputs = keras.tree.pack_sequence_as(self.stock.input, inputs)
            outputs = keras.tree.pack_sequence_as(self.stock.output, outputs)
        return keras.Model(inputs, outputs, name=self.stock.name)

    def _whole_calls(self):
        """The calls to make: a custom layer's instead of those within it."""
        whole = {}
        for call in self.plan.calls:
            outermost = call if call.within is None else call.within
            # Where the last of the calls within it stands, all that it reads is made.
            whole.pop(id(outermost), None)
            whole[id(outermost)] = outermost
        return list(whole.values())

    def _make(self, call):
        """Makes a call on the new tensors."""
        if _takes_fewer_inputs(call.operation) and not reads_constants(call):
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
        """A copy of the layer or operation, or a smaller one."""
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
        if not isinstance(old, keras.layers.Layer):
            rule = None if whole else operation_rule(old)
            if rule is not None and rule.smaller is not None:
                parts = [(plan.kept(out), plan.axes[id(out)]) for out in outputs]
                (x,) = sources
                return rule.smaller(call, plan.axes[id(x)], plan.kept(x), parts)
            return _copied(old, name)
        if whole:
            return _copied(old, name)
        kept, axis = plan.kept(outputs[0]), plan.axes[id(outputs[0])]
        shape = list(outputs[0].shape)
        shape[axis] = int(kept.sum())
        shift = None
        if rule_of(old).mixes_channels:
            constants = plan.constants(call)
            if constants.any():
                shift = shrinking.shift_of(old, constants, axis)
        changes, weights = shrinking.shrink(
            old, plan.kept(sources[0]), kept, shape[1:], axis, shift
        )
        new = copy_layer(old, **changes, name=name)
        return _Filled(new, lambda layer: layer.set_weights(weights))

    def _name(self, operation):
        """The operation's name, or a new one where models were dissolved into one."""
        name, count = operation.name, 1
        while name in self._names:
            name, count = f"{operation.name}_{count}", count + 1
        self._names.add(name)
        return name


def _takes_fewer_inputs(operation):
    return rule_of(operation).takes_fewer_inputs or is_concatenation(operation)


def _copied(old, name):
    new = copy_layer(old, name=name)
    if not isinstance(old, keras.layers.Layer):
        return new
    return _Filled(new, lambda layer: copy_state(old, layer))


class _Filled:
    """A new layer that is given its state as soon as it is called first."""

    def __init__(self, layer, fill):
        self.layer, self.fill = layer, fill

    def __call__(self, *args, **kwargs):
        outputs = self.layer(*args, **kwargs)
        if self.fill is not None:
            self.fill(self.layer)
            self.fill = None
        return outputs
