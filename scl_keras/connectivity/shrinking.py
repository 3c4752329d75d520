"""Smaller versions of layers."""

import keras
import numpy as np

from scl_keras.connectivity.layer_rules import KeptChannels, rule_of
from scl_keras.graph.walking import own_weights


def shift_of(layer, constants, axis):
    """What constants among a layer's inputs add to each of its units.

    Args:
        layer: A layer whose rule `mixes_channels`.
        constants: Array of its input's shape, with zeros elsewhere.
        axis: The axis of the units in its output.

    Returns:
        An array, a number for each unit; where outputs differ from position to
        position, these are the numbers of the first.
    """
    rule = rule_of(layer)
    kernels = {name: getattr(layer, name) for name in rule.kernels}
    dtype = next(iter(kernels.values())).dtype
    output = rule.reach(layer, keras.ops.cast(constants, dtype), **kernels)
    output = np.moveaxis(keras.ops.convert_to_numpy(output), axis, 0)
    return output.reshape(len(output), -1)[:, 0]


def kept_biases(biases, kept: KeptChannels):
    """A list with the bias of a smaller layer, or without one as before.

    Args:
        biases: List of the layer's bias, or an empty one.
        kept: `KeptChannels`, whose `shift` goes into a bias, a new one if need be.
    """
    if kept.shift is not None:
        biases = [(biases[0] if biases else 0) + kept.shift]
    return [bias[kept.outputs] for bias in biases]


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
    own = own_weights(layer)
    known = {id(w) for w in own}
    # Those of an activation that is a layer stay.
    inner = [w for w in layer.weights if id(w) not in known]
    own, inner = ([keras.ops.convert_to_numpy(w) for w in x] for x in (own, inner))
    function = rule_of(layer).shrink
    if function is None:
        return {}, own + inner
    kept = KeptChannels(inputs, outputs, tuple(output_shape), axis, shift)
    changes, weights = function(layer, own, kept)
    return changes, [*weights, *inner]
