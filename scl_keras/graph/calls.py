"""Which layers a model calls, how often, and on what shapes."""

import dataclasses
import inspect

import keras

from scl_keras.graph.inputs import input_like
from scl_keras.graph.tracing import trace
from scl_keras.graph.walking import is_graph, sublayers, walk_inside
from scl_keras.layers.twins import has_kernels


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of one layer.

    Attributes:
        layer: The layer.
        input_shapes: Shapes of its tensor arguments by name, in the order of `call`.
        output_shape: Shape of its (first) output, or None.
        times: How often it is made for each sample, as a cell for every step of a
            sequence; None if that isn't known.
    """

    layer: keras.layers.Layer
    input_shapes: dict
    output_shape: tuple | None
    times: int | None = 1

    @property
    def input_shape(self):
        """Shape of the first argument, or None."""
        return next(iter(self.input_shapes.values()), None)


def layer_calls(model, inputs=None):
    """The calls of a model's layers.

    Nested models and custom layers are entered, and so are the layers that repeat or
    hold others: `Bidirectional`, `TimeDistributed`, recurrent layers, attention. A
    shared layer has one entry a call. Where a model can't be followed, each layer has
    one entry, from its `build`.

    Args:
        model: A built Keras model.
        inputs: List of `keras.Input` to call a graph on; by default its own.

    Returns:
        A list of `LayerCall`.
    """
    try:
        found = trace(model, inputs, _holds_others)
        # One with kernels of its own makes a call itself, whatever it calls besides.
        entered = [x for x in found.entered if has_kernels(x.operation)]
        calls = [_as_layer_call(x) for x in (*entered, *found.calls)]
    except Exception:  # whatever a `call` may raise that isn't made to be followed
        if is_graph(model):
            raise
        layers = [x for x in walk_inside(model) if not isinstance(x, keras.Model)]
        calls = [_call_at_build(layer) for layer in layers if layer.built]
        made = {id(x.layer) for call in calls for x in _expand(call) if x is not call}
        calls = [call for call in calls if id(call.layer) not in made]
    return [inner for call in calls for inner in _expand(call)]


def _holds_others(call):
    """Whether to enter a layer: it holds some, and it isn't known what it does."""
    layer = call.operation
    return bool(sublayers(layer)) and not isinstance(layer, _KNOWN)


def _as_layer_call(call):
    shape = next((x.shape for x in call.outputs), None)
    shapes = _shapes_of_arguments(call.operation, call.args, call.kwargs)
    return LayerCall(call.operation, shapes, shape)


def _calls_of_graph(model, shapes):
    """Calls of a nested graph on inputs that may be known better than its own."""
    inputs = None
    if [len(x) for x in shapes] == [len(x.shape) for x in model.inputs]:
        inputs = [
            input_like(own, shape)
            for shape, own in zip(shapes, model.inputs, strict=True)
        ]
    return layer_calls(model, inputs)


def _shapes_of_arguments(layer, args, kwargs):
    try:
        arguments = inspect.signature(layer.call).bind(*args, **kwargs).arguments
    except (AttributeError, TypeError):  # an operation, or a `call` of its own kind
        arguments = dict(enumerate(args))
    return {
        name: value.shape
        for name, value in arguments.items()
        if isinstance(value, keras.KerasTensor)
    }


def _call_at_build(layer):
    config = layer.get_build_config() or {}
    shapes = config.get("shapes_dict")
    if shapes is None:
        shapes = {"input_shape": config.get("input_shape")}
    shapes = {k.removesuffix("_shape"): v for k, v in shapes.items() if v is not None}
    try:
        output = layer.compute_output_shape(*shapes.values()) if shapes else None
    except NotImplementedError:
        output = None
    if output and not isinstance(output[0], (int, type(None))):
        output = output[0]  # of several outputs
    return LayerCall(layer, shapes, output)


def _expand(call):
    """A call, and the calls of the layers inside that it makes."""
    yield call
    for inner in _inner_calls(call):
        times = None if None in (call.times, inner.times) else call.times * inner.times
        inner = dataclasses.replace(inner, times=times)
        if is_graph(inner.layer):
            for nested in _calls_of_graph(inner.layer, [inner.input_shape]):
                yield dataclasses.replace(
                    nested, times=None if times is None else times * nested.times
                )
        else:
            yield from _expand(inner)


_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_KNOWN = (
    *(keras.layers.RNN, keras.layers.StackedRNNCells, keras.layers.TimeDistributed),
    *(keras.layers.Bidirectional, *_ATTENTION),
)


def _inner_calls(call):
    layer, shape = call.layer, call.input_shape
    if shape is None:
        return []
    if isinstance(layer, keras.layers.RNN):
        step = {"inputs": (shape[0], *shape[2:])}
        units = call.output_shape and call.output_shape[-1:]
        return [LayerCall(layer.cell, step, units and (shape[0], *units), shape[1])]
    if isinstance(layer, keras.layers.StackedRNNCells):
        shapes = call.input_shapes
        return [LayerCall(cell, shapes, (shape[0], 1)) for cell in layer.cells]
    if isinstance(layer, keras.layers.TimeDistributed):
        step, output = (shape[0], *shape[2:]), call.output_shape
        output = output and (output[0], *output[2:])
        return [LayerCall(layer.layer, {"inputs": step}, output, shape[1])]
    if isinstance(layer, keras.layers.Bidirectional):
        both = [layer.forward_layer, layer.backward_layer]
        return [LayerCall(x, {"inputs": shape}, _output_shape(x, shape)) for x in both]
    if isinstance(layer, _ATTENTION):
        return _projections(call)
    return []


def _output_shape(layer, input_shape):
    shape = layer.compute_output_shape(input_shape)
    return shape[0] if isinstance(shape[0], (tuple, list)) else shape


def _projections(call):
    """An attention layer projects query, key and value, and then its output."""
    shapes = dict(call.input_shapes)
    if "query" not in shapes:
        return []
    shapes["gate"] = shapes["query"]
    shapes.setdefault("key", shapes.get("value"))
    # As many positions as the query, with axes for the heads.
    shapes["attention_output"] = (*shapes["query"][:-1], None, None)
    return [
        LayerCall(inner, {"inputs": shapes[inner.name]}, None)
        for inner in sublayers(call.layer)
        if isinstance(inner, keras.layers.EinsumDense) and shapes.get(inner.name)
    ]
