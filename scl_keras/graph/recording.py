"""The calls that a graph, or the `call` of a layer, makes: written down one by one."""

import dataclasses
import inspect

import keras

from scl_keras.backend.keras_private import without_new_nodes
from scl_keras.graph.inputs import input_like
from scl_keras.graph.walking import is_graph, own_weights, walk_inside
from scl_keras.graph.watching import is_symbolic, output_spec, watched_calls


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation in a model's graph.

    Attributes:
        operation: The `keras.Layer`, or the `keras.Operation` of a function of
            `keras.ops`.
        args: Positional arguments, with a `KerasTensor` for each tensor.
        kwargs: Keyword arguments.
        outputs: List of the `KerasTensor` objects it returns.
        within: The `Call` of the custom layer, not of one inside of another, in whose
            `call` it is made, or None.
    """

    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: list
    within: "Call | None" = None

    @property
    def inputs(self):
        """List of the `KerasTensor` objects among the arguments."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [x for x in flat if isinstance(x, keras.KerasTensor)]


class Constant(keras.Operation):
    """What a layer computes of nothing but its weights, such as a table of positions.

    Attributes:
        value: A tensor.
    """

    def __init__(self, value):
        super().__init__()
        self.value = value

    def call(self):
        """The value."""
        return self.value


class Recorder:
    """Records the calls of a graph and of the graphs nested in it.

    Args:
        enter: Predicate of a `Call`: whether to record what its layer calls instead.

    Attributes:
        calls: List of `Call`.
        entered: List of the `Call` of each layer that was entered.
    """

    def __init__(self, enter):
        self.calls, self.entered = [], []
        self.enter, self._within = enter, None
        self._sources = {}  # tensors at the border of a nested model, by id

    def record(self, model, inputs):
        """Records the calls of a graph on some inputs, and returns its outputs."""
        # A new model around the same graph: cloning a compiled one compiles the clone.
        graph = keras.Model(model.inputs, model.outputs)
        copy = keras.models.clone_model(
            graph,
            input_tensors=inputs,
            clone_function=lambda operation: _Probe(operation, self),
            call_function=lambda probe, *args, **kwargs: probe(*args, **kwargs),
        )
        return copy.outputs

    def follow(self, layer, args, kwargs):
        """Records what a layer calls on some inputs, and returns its outputs.

        Raises:
            Exception: Whatever its `call` raises for `KerasTensor` objects.
        """
        inside = walk_inside(layer)
        if not all(x.built for x in inside):
            raise ValueError(f"Layer '{layer.name}' has layers that aren't built.")
        if "training" in inspect.signature(layer.call).parameters:
            kwargs = {**kwargs, "training": False}
        with without_new_nodes(inside), watched_calls(inside[1:]) as called:
            with keras.StatelessScope():  # a count that it keeps stays as it is
                outputs = layer.call(*args, **kwargs)
            given = [x for x in keras.tree.flatten((args, kwargs)) if is_symbolic(x)]
            given = list({id(x): x for x in given}.values())
            flat = keras.tree.flatten(outputs)
            ends = [_another_of(x, given) for x in flat if is_symbolic(x)]
            graph = keras.Model(given, ends) if ends else None
            inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in given]
            for x, source in zip(inputs, given, strict=True):
                self.identify(x, source)
            found = iter(self.record(graph, inputs) if ends else ())
        self._check_all_are_called(layer, inside, called)
        found = [next(found) if is_symbolic(x) else self.constant(x) for x in flat]
        return keras.tree.pack_sequence_as(outputs, found)

    def _check_all_are_called(self, layer, inside, called):
        """Refuses a layer that reads the matrix of one inside past its call."""
        recorded = {
            id(x)
            for call in (*self.calls, *self.entered)
            if isinstance(call.operation, keras.layers.Layer)
            and call.operation is not layer
            for x in walk_inside(call.operation)
        }
        for inner in inside[1:]:
            known = id(inner) in recorded or id(inner) in called
            matrix = any(len(w.shape) > 1 for w in own_weights(inner))
            if self._within is not None and matrix and not known:
                raise ValueError(f"'{layer.name}' doesn't call '{inner.name}'.")

    def constant(self, value):
        """A tensor for a value that hangs on no input, made by a call of its own."""
        value = keras.ops.convert_to_tensor(value)
        dtype = keras.backend.standardize_dtype(value.dtype)
        output = keras.KerasTensor(tuple(value.shape), dtype)
        self.calls.append(Call(Constant(value), (), {}, [output], self._within))
        return output

    def followed(self, call):
        """The outputs of an entered layer, or None where that fails."""
        marks, within = (len(self.calls), len(self.entered)), self._within
        self._within = within or call
        self.entered.append(call)
        fresh = {}

        def fresh_input(x):
            if not is_symbolic(x) or id(x) in fresh:
                return fresh.get(id(x), x)
            shape = (x.shape[0] or 1, *x.shape[1:]) if x.shape else x.shape
            fresh[id(x)] = made = keras.Input(batch_shape=shape, dtype=x.dtype)
            self.identify(made, x)
            return made

        args, kwargs = keras.tree.map_structure(fresh_input, (call.args, call.kwargs))
        try:
            return keras.tree.flatten(self.follow(call.operation, args, kwargs))
        except Exception:  # whatever it may raise that isn't made for such tensors
            del self.calls[marks[0] :], self.entered[marks[1] :]
            return None
        finally:
            self._within = within

    def resolve(self, x):
        """The tensor of the outermost graph for one at a nested model's border."""
        return self._sources.get(id(x), (x, x))[1]

    def identify(self, x, source):
        """Notes that a tensor at the border of a nested model is that outside of it."""
        self._sources[id(x)] = x, self.resolve(source)  # holding x keeps its id its own

    def add(self, operation, args, kwargs, outputs):
        """Notes a call, or, of a layer to be entered, those that it makes."""
        args, kwargs = keras.tree.map_structure(self.resolve, (args, kwargs))
        outputs = keras.tree.flatten(outputs)
        call = Call(operation, args, kwargs, outputs, self._within)
        if isinstance(operation, keras.layers.Layer) and self.enter(call):
            inner = self.followed(call)
            if inner is not None:
                for x, source in zip(outputs, inner, strict=True):
                    self.identify(x, source)
                # Those that the calls after it read.
                call.outputs[:] = map(self.resolve, outputs)
                return
        self.calls.append(call)


class _Probe(keras.Operation):
    """Stands in for a layer and records its call: it has no weights."""

    def __init__(self, operation, recorder):
        super().__init__(name=operation.name)
        self.operation, self.recorder = operation, recorder

    def compute_output_spec(self, *args, **kwargs):
        spec = self.operation.compute_output_spec
        outputs = output_spec(self.operation, spec, *args, **kwargs)
        # New tensors: a model may return its inputs.
        if is_graph(self.operation):
            outputs = keras.tree.map_structure(_another, outputs)
            self._enter(keras.tree.flatten(args[:1]), keras.tree.flatten(outputs))
        else:
            self.recorder.add(self.operation, args, kwargs, outputs)
        return outputs

    def _enter(self, tensors, outputs):
        inputs = self._fresh_inputs(tensors)
        for x, source in zip(inputs, tensors, strict=True):
            self.recorder.identify(x, source)
        inner = self.recorder.record(self.operation, inputs)
        for x, source in zip(outputs, inner, strict=True):
            self.recorder.identify(x, source)

    def _fresh_inputs(self, tensors):
        """Inputs as this call has them, which may be known better than the graph's."""
        own = self.operation.inputs
        if [len(x.shape) for x in tensors] != [len(x.shape) for x in own]:
            return [input_like(x) for x in own]
        return [input_like(y, x.shape) for x, y in zip(tensors, own, strict=True)]


def _another_of(x, given):
    """An output as a tensor that isn't an input, for a graph between both."""
    return keras.ops.copy(x) if any(x is y for y in given) else x


def _another(x):
    return keras.KerasTensor(x.shape, x.dtype)
