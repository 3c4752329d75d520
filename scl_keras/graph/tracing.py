"""A model's graph as a list of calls, nested models and custom layers entered."""

import dataclasses

import keras

from scl_keras.graph.inputs import call_arguments, input_like
from scl_keras.graph.recording import Recorder
from scl_keras.graph.walking import is_graph


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
    recorder = Recorder(enter or (lambda call: False))
    if is_graph(model):
        inputs = inputs or [input_like(x) for x in model.inputs]
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
    """`trace(model)` for a batch of one, so that known inputs leave no size open.

    A model with a batch of its own is called on that.
    """
    if not is_graph(model):
        return trace(model, None, enter)
    shapes = [(x.shape[0] or 1, *x.shape[1:]) for x in model.inputs]
    inputs = [input_like(x, s) for x, s in zip(model.inputs, shapes, strict=True)]
    return trace(model, inputs, enter)


def trace_call(layer, x, enter=None):
    """Writes down a call of a layer or graph on one tensor, see `trace`."""
    if is_graph(layer):
        return trace(layer, [x], enter)
    recorder = Recorder(enter or (lambda call: False))
    # Not the layer's own one, which may leave sizes open that are known.
    outputs = keras.Operation.compute_output_spec(layer, x)
    recorder.add(layer, (x,), {}, outputs)
    outputs = [recorder.resolve(y) for y in keras.tree.flatten(outputs)]
    return Trace([x], recorder.calls, outputs, recorder.entered)
