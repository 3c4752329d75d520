"""Rules of layers that make one tensor of several."""

import keras
from keras import layers

from scl_keras.connectivity.channel_rules import joined_channels, united_channels
from scl_keras.connectivity.layer_rules import LayerRule, register_rule
from scl_keras.connectivity.layer_types import layers_named
from scl_keras.connectivity.reach import as_called, product


def _sum(layer, xs):
    # A factor that depends on no input need not be zero (it may have a bias), so that
    # a product has the paths of both its factors, like a sum. The layer itself would
    # compute in its own precision.
    dtype = keras.backend.standardize_dtype(xs[0].dtype)
    return layers.Add(dtype=dtype)(xs)


def _mean(layer, xs):
    return _sum(layer, xs) / len(xs)


register_rule(
    *layers_named("Subtract", "Multiply", "Maximum", "Minimum"),
    rule=LayerRule(reach=_sum, channels=united_channels),
)

register_rule(
    layers.Add,
    rule=LayerRule(
        reach=_sum, channels=united_channels, is_sum=True, takes_fewer_inputs=True
    ),
)

register_rule(
    layers.Average, rule=LayerRule(reach=_sum, channels=united_channels, flow=_mean)
)


register_rule(
    layers.Concatenate,
    rule=LayerRule(reach=as_called, channels=joined_channels, takes_fewer_inputs=True),
)


def _dot(layer, xs):
    return product(lambda *pair: layer.call(list(pair)), xs)


def _is_plain_product(layer):
    return not layer.normalize


register_rule(layers.Dot, rule=LayerRule(reach=_dot, is_known=_is_plain_product))
