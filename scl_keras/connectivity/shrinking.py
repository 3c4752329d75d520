"""Smaller versions of layers."""

import keras
import numpy as np
from keras import layers

from scl_keras.connectivity.stand_ins import layer_stand_in, ranks

_CONVOLUTIONS = ranks("Conv{}D")
_TRANSPOSED = ranks("Conv{}DTranspose")
_SEPARABLE = ranks("SeparableConv{}D", (1, 2))
_DEPTHWISE = ranks("DepthwiseConv{}D", (1, 2))
_DENSE = [layers.Dense, layers.EinsumDense]


def reads_all_channels(layer):
    """Whether a layer has a kernel that makes new units of all of its input's."""
    return type(layer) in [*_DENSE, *_CONVOLUTIONS, *_TRANSPOSED, *_SEPARABLE]


def keeps_uniform(layer):
    """Whether inputs that are alike at all positions give outputs that are."""
    if type(layer) in _DENSE:
        return True
    if type(layer) not in [*_CONVOLUTIONS, *_SEPARABLE]:
        return False
    return layer.padding == "valid" or set(layer.kernel_size) == {1}


def shift_of(layer, constants, axis):
    """What constants among a layer's inputs add to each of its units.

    Args:
        layer: A layer that `reads_all_channels`.
        constants: Array of its input's shape, with zeros elsewhere.
        axis: The axis of the units in its output.

    Returns:
        An array, a number for each unit; where outputs differ from position to
        position, these are the numbers of the first.
    """
    found = layer_stand_in(layer)
    kernels = {name: getattr(layer, name) for name in found.kernels}
    dtype = next(iter(kernels.values())).dtype
    output = found.function(layer, keras.ops.cast(constants, dtype), **kernels)
    output = np.moveaxis(keras.ops.convert_to_numpy(output), axis, 0)
    return output.reshape(len(output), -1)[:, 0]


def cut_off(layer, kept):
    """Writes zeros into all connections to units that don't stay, in place.

    Args:
        layer: A layer that `reads_all_channels`.
        kept: Boolean array: which of its units stay.
    """
    kernel = getattr(layer, layer_stand_in(layer).kernels[-1])
    kept = kept[:, None] if type(layer) in _TRANSPOSED else kept
    kernel.assign(keras.ops.convert_to_numpy(kernel) * kept)


def shrink(layer, inputs, outputs, output_shape, axis, shift=None):
    """What a layer becomes when some of its channels are removed.

    Args:
        layer: The layer.
        inputs: Boolean array: which channels of its input stay.
        outputs: Boolean array: which channels of its output stay.
        output_shape: Shape of its output then, without the batch axis.
        axis: The axis of the output's channels, the batch's counted.
        shift: Array to add to its biases, before units are removed, or None.

    Returns:
        A pair of the changes to its config, and of its weights.
    """
    kind, weights = type(layer), [keras.ops.convert_to_numpy(w) for w in layer.weights]
    if kind is layers.Reshape:
        return {"target_shape": output_shape}, []
    if kind is layers.Embedding:
        return {"output_dim": int(outputs.sum())}, [weights[0][:, outputs]]
    if kind is layers.BatchNormalization:
        return {}, [w[outputs] for w in weights]
    if kind is layers.PReLU:
        return {}, [np.compress(outputs, weights[0], axis - 1)]
    if kind in _DEPTHWISE:
        kernel, *bias = weights
        return {}, [kernel[..., inputs, :], *(b[outputs] for b in bias)]
    if reads_all_channels(layer):
        return _shrink_kernel(layer, weights, inputs, outputs, shift)
    return {}, weights


def _shrink_kernel(layer, weights, inputs, outputs, shift):
    kind, units = type(layer), int(outputs.sum())
    if kind in _SEPARABLE:
        depthwise, pointwise, *bias = weights
        rows = np.repeat(inputs, layer.depth_multiplier)
        kernels = [depthwise[..., inputs, :], pointwise[..., rows, :][..., outputs]]
    elif kind in _TRANSPOSED:
        kernel, *bias = weights
        kernels = [kernel[..., outputs, :][..., inputs]]
    else:
        kernel, *bias = weights
        kernels = [kernel[..., inputs, :][..., outputs]]
    if shift is not None:
        bias = [(bias[0] if bias else 0) + shift]
    changes = {"units": units} if kind is layers.Dense else {"filters": units}
    if kind is layers.EinsumDense:
        changes = {"output_shape": (*layer.partial_output_shape[:-1], units)}
        if bias:
            changes["bias_axes"] = layer.equation.replace(" ", "")[-1]
    elif bias:
        changes["use_bias"] = True
    return changes, [*kernels, *(b[outputs] for b in bias)]
