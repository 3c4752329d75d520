"""Rules of pooling: maximum and mean alike depend on all of a window.

Synaptic flow takes the maximum as a mean.
"""

import math

from keras import ops

from scl_keras.connectivity.channel_rules import same_channels_along_axis
from scl_keras.connectivity.channels import Channels, channel_axis
from scl_keras.connectivity.layer_rules import LayerRule, register_rule
from scl_keras.connectivity.layer_types import layers_of_ranks
from scl_keras.connectivity.reach import channels_last


@channels_last
def _mean(layer, x):
    return ops.average_pool(
        x,
        layer.pool_size,
        strides=layer.strides,
        padding=layer.padding,
        data_format="channels_last",
    )


def _sum(layer, x):
    # Or more, where padding is in a window: the mean is of the rest.
    return _mean(layer, x) * float(math.prod(layer.pool_size))


register_rule(
    *layers_of_ranks("MaxPooling{}D"),
    *layers_of_ranks("AveragePooling{}D"),
    rule=LayerRule(reach=_sum, channels=same_channels_along_axis, flow=_mean),
)


def _global_sum(layer, x):
    first = layer.data_format == "channels_first"
    axes = range(2, len(x.shape)) if first else range(1, len(x.shape) - 1)
    return ops.sum(x, tuple(axes), keepdims=layer.keepdims)


def _global_mean(layer, x):
    y = _global_sum(layer, x)
    return y * (math.prod(y.shape) / math.prod(x.shape))


def _global_channels(classes, call, xs):
    (x,), layer = xs, call.operation
    if x.axis != channel_axis(layer, len(call.inputs[0].shape)):
        return None
    return [Channels(x.axis if layer.keepdims else 1, x.ids)]


register_rule(
    *layers_of_ranks("GlobalMaxPooling{}D"),
    *layers_of_ranks("GlobalAveragePooling{}D"),
    rule=LayerRule(reach=_global_sum, channels=_global_channels, flow=_global_mean),
)


def _adaptive_mean(layer, x):
    return ops.adaptive_average_pool(x, layer.output_size, layer.data_format)


def _adaptive_sum(layer, x):
    # Times at least the size of any window.
    return _adaptive_mean(layer, x) * float(math.prod(x.shape[1:]))


register_rule(
    *layers_of_ranks("AdaptiveMaxPooling{}D"),
    *layers_of_ranks("AdaptiveAveragePooling{}D"),
    rule=LayerRule(
        reach=_adaptive_sum, channels=same_channels_along_axis, flow=_adaptive_mean
    ),
)
