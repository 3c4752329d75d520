"""Rules of activation layers."""

import dataclasses

import numpy as np
from keras import layers

from scl_keras.connectivity.channel_rules import ELEMENTWISE
from scl_keras.connectivity.layer_rules import Composite, LayerRule, register_rule
from scl_keras.connectivity.layer_types import layers_named
from scl_keras.connectivity.reach import along_own_axes, elementwise

register_rule(
    *layers_named("Activation", "ReLU", "LeakyReLU", "ELU", "Identity"),
    rule=ELEMENTWISE,
)


def _channels_with_slopes(classes, call, xs):
    """The same channels, if each has slopes of its own."""
    (alpha,), (x,) = call.operation.weights, xs
    return xs if alpha.shape[x.axis - 1] == len(x.ids) else None


def _shrink_slopes(layer, weights, kept):
    return {}, [np.compress(kept.outputs, weights[0], kept.axis - 1)]


register_rule(
    layers.PReLU,
    rule=dataclasses.replace(
        ELEMENTWISE, channels=_channels_with_slopes, shrink=_shrink_slopes
    ),
)


def _masked_softmax(layer, inputs, mask=None):
    def run(masks, inputs, mask=None):
        both = inputs if mask is None else inputs + mask
        return [along_own_axes(layer, both)]

    return run


register_rule(
    layers.Softmax,
    rule=LayerRule(
        reach=along_own_axes,
        composite=Composite(_masked_softmax, tensors=("inputs", "mask")),
        flow=elementwise,
    ),
)
