"""Rules of layers that normalize, and of those that only scale and shift.

Synaptic flow takes a normalization as the scale and shift that it is in inference, or
as those that it learns, if the rest depends on the input.
"""

import keras
import numpy as np
from keras import layers, ops

from scl_keras.connectivity.layer_rules import LayerRule, register_rule
from scl_keras.connectivity.layer_types import layers_named
from scl_keras.connectivity.reach import along_own_axes, elementwise, mixed_along


def _read(layer, name, shape, default):
    """A weight along the layer's axes, to broadcast to a shape, or all a default."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = [axis % len(shape) for axis in axes]
    shape = [n if i in axes else 1 for i, n in enumerate(shape)]
    variable = getattr(layer, name, None)
    if not isinstance(variable, keras.Variable):
        return np.full(shape, default)
    return np.reshape(ops.convert_to_numpy(variable).astype("float64"), shape)


def _learned(layer, shape):
    return _read(layer, "gamma", shape, 1.0), _read(layer, "beta", shape, 0.0)


def _learned_scale(layer, shape):
    return _read(layer, "scale", shape, 1.0), None


def _in_inference(layer, shape):
    scale, shift = _learned(layer, shape)
    variance = _read(layer, "moving_variance", shape, 1.0)
    scale = scale / np.sqrt(variance + layer.epsilon)
    return scale, shift - scale * _read(layer, "moving_mean", shape, 0.0)


def _channels_of_batch_normalization(classes, call, xs):
    """The same channels, if it is them that it normalizes."""
    layer, (x,), rank = call.operation, xs, len(call.outputs[0].shape)
    return xs if x.axis == layer.axis % rank else None


def _shrink_batch_normalization(layer, weights, kept):
    return {}, [w[kept.outputs] for w in weights]


register_rule(
    layers.BatchNormalization,
    rule=LayerRule(
        reach=elementwise,
        channels=_channels_of_batch_normalization,
        shrink=_shrink_batch_normalization,
        affine=_in_inference,
    ),
)

register_rule(
    *layers_named("Normalization", "Rescaling"), rule=LayerRule(reach=elementwise)
)

register_rule(
    layers.LayerNormalization,
    rule=LayerRule(reach=along_own_axes, flow=elementwise, affine=_learned),
)

register_rule(
    *layers_named("RMSNormalization"),
    rule=LayerRule(reach=along_own_axes, flow=elementwise, affine=_learned_scale),
)

register_rule(
    layers.UnitNormalization, rule=LayerRule(reach=along_own_axes, flow=elementwise)
)


def _along_groups(layer, x):
    y = ops.moveaxis(x, layer.axis, -1)
    groups = y.shape[-1] if layer.groups == -1 else layer.groups
    grouped = ops.reshape(y, (*y.shape[:-1], groups, -1))
    axes = (*range(1, len(y.shape) - 1), -1)
    y = ops.reshape(mixed_along(grouped, axes), y.shape)
    return ops.moveaxis(y, -1, layer.axis)


register_rule(
    layers.GroupNormalization,
    rule=LayerRule(reach=_along_groups, flow=elementwise, affine=_learned),
)
