"""What layers do to channels: functions that `LayerRule.channels` may be.

Each takes the `ChannelClasses`, the `Call` and the list of the `Channels` of its
inputs, and returns those of its outputs, or None where it isn't known whether some
could go: then all stay.
"""

import keras
import numpy as np

from scl_keras.connectivity.activations import is_elementwise
from scl_keras.connectivity.channels import ChannelClasses, Channels, channel_axis
from scl_keras.connectivity.layer_rules import LayerRule
from scl_keras.connectivity.reach import elementwise


def _acts_on_each(layer):
    """Whether a layer's activation does the same to each of its channels."""
    activation = getattr(layer, "activation", None)
    if isinstance(activation, keras.layers.Layer):
        # Its weights may be some for each channel. Keras builds it with the first call.
        alike = activation.built and not activation.weights
        return alike and is_elementwise(activation)
    return is_elementwise(activation)


def unknown_channels(classes: ChannelClasses, call, xs: list) -> None:
    """Nothing is known, so that all stay."""
    return None


def new_channels(classes: ChannelClasses, call, xs: list) -> list | None:
    """New channels, of a layer with a kernel over all of its inputs."""
    layer, out = call.operation, call.outputs[0]
    axis = channel_axis(layer, len(out.shape))
    if xs[0].axis != axis:
        return None
    units = classes.fresh(out.shape[axis])
    if not _acts_on_each(layer):
        classes.pin(units, f"are joined by the activation of '{layer.name}'")
    return [Channels(axis, units)]


def multiplied_channels(classes: ChannelClasses, call, xs: list) -> list | None:
    """A depthwise kernel makes `depth_multiplier` channels of each."""
    layer, (x,) = call.operation, xs
    if x.axis != channel_axis(layer, len(call.outputs[0].shape)):
        return None
    if not _acts_on_each(layer):
        return None
    return [Channels(x.axis, np.repeat(x.ids, layer.depth_multiplier))]


def same_channels(classes: ChannelClasses, call, xs: list) -> list | None:
    """The same channels, whatever their axis."""
    return xs if _acts_on_each(call.operation) else None


ELEMENTWISE = LayerRule(reach=elementwise, channels=same_channels)
"""The rule of layers without weights whose outputs depend on the entry at their place.

Wherever that is, so that any channels of theirs can go.
"""


def same_channels_along_axis(classes: ChannelClasses, call, xs: list) -> list | None:
    """The same channels, in a layer that does something along the other axes."""
    (x,), out = xs, call.outputs[0]
    return xs if x.axis == channel_axis(call.operation, len(out.shape)) else None


def united_channels(classes: ChannelClasses, call, xs: list) -> list | None:
    """One class for each channel of a sum, a product, ..."""
    sizes = {(x.axis, len(x.ids)) for x in xs}
    ranks = {len(x.shape) for x in call.inputs}
    if len(sizes) > 1 or len(ranks) > 1:
        return None
    for x in xs[1:]:
        classes.unite(xs[0].ids, x.ids)
    return [xs[0]]


def joined_channels(classes: ChannelClasses, call, xs: list) -> list | None:
    """Concatenation along the channels, or along another axis."""
    axis = call.operation.axis % len(call.outputs[0].shape)
    axes = {x.axis for x in xs}
    if len(axes) > 1:
        return None
    if axes == {axis}:
        return [Channels(axis, np.concatenate([x.ids for x in xs]))]
    return united_channels(classes, call, xs)
