"""A model's graph as a list of calls, nested models entered."""

import dataclasses

import keras

from scl_keras.graph.walking import is_graph


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation in a model's graph.

    Attributes:
        operation: The `keras.Layer`, or the `keras.Operation` of a function of
            `keras.ops`.
        args: Positional arguments, with a `KerasTensor` for each tensor.
        kwargs: Keyword arguments.
        outputs: List of the `KerasTensor` objects it returns.
    """

    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: list

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
    """

    inputs: list
    calls: list
    outputs: list


def trace(model, inputs=None):
    """Writes down the calls of a functional or Sequential model.

    Args:
        model: A built functional or Sequential model.
        inputs: List of `keras.Input` to call it on; by default some like its own.

    Returns:
        A `Trace`, whose tensors are its own: the model's layers aren't called.
    """
    recorder = _Recorder()
    inputs = inputs or [_input(x.shape, x) for x in model.inputs]
    outputs = recorder.record(model, inputs)
    return Trace(inputs, recorder.calls, [recorder.resolve(x) for x in outputs])


def trace_one(model):
    """`trace(model)` for a batch of one, so that known inputs leave no size open."""
    return trace(model, [_input((1, *x.shape[1:]), x) for x in model.inputs])


class _Recorder:
    """Records the calls of a graph and of the graphs nested in it."""

    def __init__(self):
        self.calls = []
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

    def resolve(self, x):
        """The tensor of the outermost graph for one at a nested model's border."""
        return self._sources.get(id(x), (x, x))[1]

    def identify(self, x, source):
        self._sources[id(x)] = x, self.resolve(source)  # holding x keeps its id its own

    def add(self, operation, args, kwargs, outputs):
        args, kwargs = keras.tree.map_structure(self.resolve, (args, kwargs))
        self.calls.append(Call(operation, args, kwargs, keras.tree.flatten(outputs)))


class _Probe(keras.Operation):
    """Stands in for a layer and records its call: it has no weights."""

    def __init__(self, operation, recorder):
        super().__init__(name=operation.name)
        self.operation, self.recorder = operation, recorder

    def compute_output_spec(self, *args, **kwargs):
        outputs = self.operation.compute_output_spec(*args, **kwargs)
        if _is_open(outputs) and not _is_open((args, kwargs)):
            # Some layers, like `EinsumDense`, leave sizes open that are known.
            compute = keras.Operation.compute_output_spec
            outputs = compute(self.operation, *args, **kwargs)
        if is_graph(self.operation):
            # New tensors: a model may return its inputs.
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


def _is_open(tensors):
    return any(None in getattr(x, "shape", ()) for x in keras.tree.flatten(tensors))


def _another(x):
    return keras.KerasTensor(x.shape, x.dtype)
