"""How many positions one connection serves in one call of its layer.

One connection costs one multiply-accumulate a position and sample. Each rule takes a
`scl_keras.graph.kernels.Kernel` and a `scl_keras.graph.calls.LayerCall`, and returns an
int, or None where a size isn't known. Padding's zeros count, as everywhere in the
literature.
"""

import math


def at_features(kernel, call):
    """Outputs over features: a kernel whose features are the layer's output channels.

    1 for a `Dense` layer on vectors, height x width of the output for a convolution.
    None where the features aren't those of the output: an inner kernel.
    """
    shape = call.output_shape
    if not shape or kernel.features not in (shape[1:2] + shape[-1:]):
        return None
    size = _product(shape)
    return None if size is None else size // kernel.features


def at_free_axes(kernel, call):
    """Positions along the axes of an `EinsumDense` layer's input not in its kernel."""
    inputs, _, rest = kernel.layer.equation.partition(",")
    own, shape = rest.partition("->")[0], call.input_shape
    if shape is None:
        return None
    head, _, tail = inputs.partition("...")
    axes = head + "." * (len(shape) - len(head) - len(tail)) + tail
    pairs = zip(axes, shape, strict=True)
    return _product([size for axis, size in pairs if axis not in own])


def at_outputs(kernel, call):
    """Positions of the output, whatever its channels: `SeparableConv`, cells."""
    return _without_channels(kernel.layer, call.output_shape)


def at_inputs(kernel, call):
    """Positions of the input: a transposed convolution puts its kernel at each."""
    return _without_channels(kernel.layer, call.input_shape)


def nowhere(kernel, call):
    """0: an `Embedding` looks its connections up, and multiplies nothing."""
    return 0


def at_reversals(kernel, call):
    """Positions where a `ReversibleEmbedding` gives numbers for tokens: 0 elsewhere."""
    inputs, outputs = call.input_shape or (), call.output_shape or ()
    layer = kernel.layer
    is_lookup = len(inputs) < len(outputs)
    if not layer.tie_weights and kernel.name == "embeddings":
        return 0  # there is another table for the way back
    if is_lookup or outputs[-1:] != (layer.input_dim,):
        return 0
    return _product(inputs[:-1])


def _without_channels(layer, shape):
    if shape is None:
        return None
    first = getattr(layer, "data_format", None) == "channels_first"
    return _product(shape[:1] + (shape[2:] if first else shape[1:-1]))


def _product(shape):
    """Product of a shape without its batch axis."""
    return None if shape is None or None in shape[1:] else math.prod(shape[1:])
