"""A model's graph as a list of calls, nested models and custom layers entered."""

import contextlib
import dataclasses
import functools
import inspect

import keras

from scl_keras.backend.keras_private import without_new_nodes
from scl_keras.graph.walking import is_graph, own_weights, walk_inside


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


@dataclasses.dataclass(frozen=True)
class Trace:
    """A model's graph as a list of calls, in an order in which they can be made.

    Attributes:
        inputs: List of the graph's input `KerasTensor` objects.
        calls: List of `Call`. Nested models are entered: they are no calls themselves,
            and a layer has one call each time that it is used.
        outputs: List of the graph's output `KerasTensor` objects.
        entered: List of the `Call` of each layer that was entered.
    """

    inputs: list
    calls: list
    outputs: list
    entered: list = dataclasses.field(default_factory=list)


def trace(model, inputs=None, enter=None):
    """Writes down the calls of a model.

    A model with a `call` of its own has no graph until it is called: it is entered in
    any case, on a batch of one.

    Args:
        model: A built model.
        inputs: List of `keras.Input` to call it on; by default some like its own.
        enter: Predicate of a `Call`: whether the calls that a layer makes within its
            `call` are to be written down instead. Where that fails, as it does if a
            layer computes with other functions than those of `keras.ops`, the layer's
            own call stands.

    Returns:
        A `Trace`, whose tensors are its own: no weight or state is changed, and layers
        don't remember the calls.

    Raises:
        ValueError: If the model has a `call` of its own that can't be entered.
    """
    recorder = _Recorder(enter or (lambda call: False))
    if is_graph(model):
        inputs = inputs or [_input(x.shape, x) for x in model.inputs]
        outputs = recorder.record(model, inputs)
    else:
        args, kwargs = call_arguments(model)
        inputs = keras.tree.flatten((args, kwargs))
        try:
            outputs = keras.tree.flatten(recorder.follow(model, args, kwargs))
        except Exception as error:  # whatever isn't made for such tensors
            raise ValueError(
                f"The `call` of model '{model.name}' can't be followed: it has to "
                "compute with layers and `keras.ops` alone, on floats of the shapes "
                f"that it was built on. Received: {type(error).__name__}: {error}"
            ) from error
    outputs = [recorder.resolve(x) for x in outputs]
    return Trace(inputs, recorder.calls, outputs, recorder.entered)


def trace_one(model, enter=None):
    """`trace(model)` for a batch of one, so that known inputs leave no size open."""
    if not is_graph(model):
        return trace(model, None, enter)
    return trace(model, [_input((1, *x.shape[1:]), x) for x in model.inputs], enter)


def trace_call(layer, x, enter=None):
    """Writes down a call of a layer or graph on one tensor, see `trace`."""
    if is_graph(layer):
        return trace(layer, [x], enter)
    recorder = _Recorder(enter or (lambda call: False))
    # Not the layer's own one, which may leave sizes open that are known.
    outputs = keras.Operation.compute_output_spec(layer, x)
    recorder.add(layer, (x,), {}, outputs)
    outputs = [recorder.resolve(y) for y in keras.tree.flatten(outputs)]
    return Trace([x], recorder.calls, outputs, recorder.entered)


def call_arguments(model):
    """What a model without a graph was built on: inputs for a batch of one.

    Returns:
        A tuple of arguments and a dict of keyword arguments, of `keras.Input`. Keras
        remembers shapes and no dtypes: the inputs are floats.

    Raises:
        ValueError: If the model doesn't remember on what it was built.
    """
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or {"input_shape": config.get("input_shape")}
    if None in shapes.values():
        raise ValueError(
            f"Model '{model.name}' has no graph, and doesn't tell by its build "
            "configuration on inputs of which shapes it was called. Call it on data. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )

    def made(shape):
        return keras.Input(batch_shape=(1, *shape[1:]), dtype=model.input_dtype)

    made = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(made, shape)
        for name, shape in shapes.items()
    }
    if len(made) == 1:
        return tuple(made.values()), {}
    return (), made


class _Recorder:
    """Records the calls of a graph and of the graphs nested in it."""

    def __init__(self, enter):
        self.calls, self.entered = [], []
        self.enter, self._within = enter, None
        self._sources = {}  # tensors at the border of a nested model, by id

    def record(self, model, inputs):
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
        with without_new_nodes(inside), _watched(inside[1:]) as called:
            outputs = layer.call(*args, **kwargs)
            given = [x for x in keras.tree.flatten((args, kwargs)) if _is_symbolic(x)]
            given = list({id(x): x for x in given}.values())
            flat = keras.tree.flatten(outputs)
            ends = [_another_of(x, given) for x in flat if _is_symbolic(x)]
            graph = keras.Model(given, ends) if ends else None
            inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in given]
            for x, source in zip(inputs, given, strict=True):
                self.identify(x, source)
            found = iter(self.record(graph, inputs) if ends else ())
        self._check_all_are_called(layer, inside, called)
        found = [next(found) if _is_symbolic(x) else self.constant(x) for x in flat]
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

        def input_like(x):
            if not _is_symbolic(x) or id(x) in fresh:
                return fresh.get(id(x), x)
            shape = (x.shape[0] or 1, *x.shape[1:]) if x.shape else x.shape
            fresh[id(x)] = made = keras.Input(batch_shape=shape, dtype=x.dtype)
            self.identify(made, x)
            return made

        args, kwargs = keras.tree.map_structure(input_like, (call.args, call.kwargs))
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
        self._sources[id(x)] = x, self.resolve(source)  # holding x keeps its id its own

    def add(self, operation, args, kwargs, outputs):
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


@contextlib.contextmanager
def _watched(layers):
    """Watches which layers are called on nothing but constants.

    And has those whose own `compute_output_spec` isn't for their `call`, as in
    subclasses with more arguments, or leaves sizes open that are known, find out by
    their `call`.

    Yields:
        Set of the ids of layers.
    """
    called = set()

    def watched(layer):
        call, spec = layer.call, layer.compute_output_spec

        @functools.wraps(call)
        def watched_call(*args, **kwargs):
            if not any(map(_is_symbolic, keras.tree.flatten((args, kwargs)))):
                called.add(id(layer))
            return call(*args, **kwargs)

        spec = functools.partial(_output_spec, layer, spec)
        return {"call": watched_call, "compute_output_spec": spec}

    before = [(layer, dict(vars(layer))) for layer in layers]
    for layer in layers:
        vars(layer).update(watched(layer))
    try:
        yield called
    finally:
        for layer, own in before:
            for name in ("call", "compute_output_spec"):
                if name in own:
                    vars(layer)[name] = own[name]
                else:
                    del vars(layer)[name]


def _output_spec(operation, spec, *args, **kwargs):
    by_call = functools.partial(keras.Operation.compute_output_spec, operation)
    try:
        outputs = spec(*args, **kwargs)
    except TypeError:
        return by_call(*args, **kwargs)
    if _is_open(outputs) and not _is_open((args, kwargs)):
        # Some layers, like `EinsumDense`, leave sizes open that are known.
        return by_call(*args, **kwargs)
    return outputs


class _Probe(keras.Operation):
    """Stands in for a layer and records its call: it has no weights."""

    def __init__(self, operation, recorder):
        super().__init__(name=operation.name)
        self.operation, self.recorder = operation, recorder

    def compute_output_spec(self, *args, **kwargs):
        spec = self.operation.compute_output_spec
        outputs = _output_spec(self.operation, spec, *args, **kwargs)
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
            return [_input(x.shape, x) for x in own]
        return [_input(x.shape, y) for x, y in zip(tensors, own, strict=True)]


def _input(shape, like):
    return keras.Input(
        batch_shape=shape, dtype=like.dtype, sparse=like.sparse, name=like.name
    )


def _is_symbolic(x):
    return isinstance(x, keras.KerasTensor)


def _another_of(x, given):
    """An output as a tensor that isn't an input, for a graph between both."""
    return keras.ops.copy(x) if any(x is y for y in given) else x


def _is_open(tensors):
    return any(None in getattr(x, "shape", ()) for x in keras.tree.flatten(tensors))


def _another(x):
    return keras.KerasTensor(x.shape, x.dtype)
