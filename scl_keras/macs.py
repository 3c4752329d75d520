"""How often each connection is used: the multiply-accumulates of a network."""

import math

import keras

from scl_keras.masks import find_masks


def kernel_positions(kernel_shape, feature_axes, output_shape):
    """Number of output positions that one connection of a kernel serves.

    One connection costs one multiply-accumulate a position: 1 for a `Dense` layer on
    vectors, height x width of the output for a convolution.

    Args:
        kernel_shape: Shape of the kernel.
        feature_axes: Its axes that index features.
        output_shape: Shape of the layer's output, batch axis first.

    Returns:
        An int, or None where the output's size isn't known.
    """
    if None in output_shape[1:]:
        return None
    features = math.prod(kernel_shape[axis] for axis in feature_axes)
    return math.prod(output_shape[1:]) // features


def output_shapes(model):
    """Output shapes of the layers of a functional or Sequential model, call by call.

    Nested models are entered, and a shared layer has one entry a call.

    Args:
        model: A built functional or Sequential model.

    Returns:
        A list of pairs of a layer and one of its output shapes.
    """
    seen = []
    # A new model around the same graph: cloning a compiled one would compile the clone.
    graph = keras.Model(model.inputs, model.outputs)
    keras.models.clone_model(
        graph,
        clone_function=lambda layer: _Probe(layer, seen),
        call_function=lambda probe, *args, **kwargs: probe(*args, **kwargs),
    )
    return seen


class _Probe(keras.Operation):
    """Stands in for a layer and writes its output shape down: it has no weights."""

    def __init__(self, layer, seen):
        super().__init__(name=layer.name)
        self.layer, self.seen = layer, seen

    def compute_output_spec(self, *args, **kwargs):
        outputs = self.layer.compute_output_spec(*args, **kwargs)
        if is_graph(self.layer):
            self.seen.extend(output_shapes(self.layer))
        elif isinstance(outputs, keras.KerasTensor):
            self.seen.append((self.layer, outputs.shape))
        return outputs


def is_graph(layer):
    """Whether it is a built functional or Sequential model: a graph to walk."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def record_positions(model):
    """Writes into each mask how many positions its connections serve, over all calls.

    Layers know that of their last `build`; this adds up the calls of shared layers.
    Subclassed models have no graph to walk: there, what the layers know stands.
    """
    if not is_graph(model):
        return
    positions = {}
    for layer, shape in output_shapes(model):
        for mask in find_masks(layer):
            used = kernel_positions(mask.variable.shape, mask.feature_axes, shape)
            before = positions.setdefault(id(mask), (mask, 0))[1]
            unknown = used is None or before is None
            positions[id(mask)] = (mask, None if unknown else before + used)
    for mask, used in positions.values():
        mask.positions = used
