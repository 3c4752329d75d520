"""Rules of layers that move, repeat or leave out entries."""

import math

from keras import layers, ops

from scl_keras.connectivity.channel_rules import same_channels_along_axis
from scl_keras.connectivity.layer_rules import LayerRule, register_rule
from scl_keras.connectivity.layer_types import layers_named, layers_of_ranks
from scl_keras.connectivity.moved_channels import moved_channels
from scl_keras.connectivity.operation_channels import with_size
from scl_keras.connectivity.reach import as_called, resized

register_rule(
    *layers_named("Flatten", "Permute", "RepeatVector"),
    rule=LayerRule(reach=as_called, channels=moved_channels),
)


def _shrink_reshape(layer, weights, kept):
    shape = with_size(layer.target_shape, kept.axis - 1, kept.units)
    return {"target_shape": shape}, []


register_rule(
    layers.Reshape,
    rule=LayerRule(reach=as_called, channels=moved_channels, shrink=_shrink_reshape),
)

register_rule(
    *layers_of_ranks("Cropping{}D"),
    *layers_of_ranks("ZeroPadding{}D"),
    *layers_of_ranks("UpSampling{}D", (1, 3)),
    rule=LayerRule(reach=as_called, channels=same_channels_along_axis),
)


def _interpolated(layer, x):
    return ops.cast(layer.call(x), x.dtype)


def _up_sampling(layer, x):
    # Interpolation has fractions for weights; bilinear ones are 1 / (4 h w) at least.
    fraction = 4 * math.prod(layer.size) if layer.interpolation == "bilinear" else 1
    return layer.call(x) * float(fraction)


def _has_positive_weights(layer):
    return layer.interpolation in ("nearest", "bilinear")


register_rule(
    layers.UpSampling2D,
    rule=LayerRule(
        reach=_up_sampling,
        is_known=_has_positive_weights,
        channels=same_channels_along_axis,
        flow=_interpolated,
    ),
)


def _resized(layer, x):
    return resized(layer, x, layer.compute_output_shape(x.shape))


def _resizes_plainly(layer):
    ratio = layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio
    return not ratio and _has_positive_weights(layer)


register_rule(
    layers.Resizing,
    rule=LayerRule(
        reach=_resized,
        is_known=_resizes_plainly,
        channels=same_channels_along_axis,
        flow=_interpolated,
    ),
)
