"""Layers whose channels are switched with those of the masked layer before them."""

import weakref

import keras
from keras import layers, ops

from scl_keras.graph.tracing import trace
from scl_keras.graph.walking import is_graph, walk_inside
from scl_keras.layers.channels import keeps_zero, switch_channels
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.types import Tensor


class ChannelFollower:
    """Mixin of a stock layer that multiplies its outputs with another layer's masks.

    Where masks switch whole channels, a channel is switched where it is complete:
    behind the batch normalization and activation that directly follow. There
    `dL/ds = p(s) · Σ dL/dy · y`, what the channel `y` is worth, also while it is cut
    (the criterion of Molchanov et al., *Importance Estimation for Neural Network
    Pruning*, arXiv 1906.10771). Further in front it would learn nothing: a filter
    before batch normalization may be scaled without any effect, so that
    `Σ dL/dw · w = 0`, and what is zero before a ReLU has no gradient. And what a
    normalization makes of zeros, a constant, couldn't be removed in front of a
    convolution that pads.

    `sparsify(model, granularity="channel")` puts such layers where nothing else reads
    what the masked layer makes, and `SCLModel(inputs, outputs)` connects them. By
    themselves they are the stock layers, which `strip_masks` makes of them again.
    """

    masked_in_place = False
    _source = None

    def follow(self, layer: MaskedLayer, is_last: bool) -> None:
        """Switches its channels with those of a masked layer, its only source.

        Args:
            layer: `MaskedLayer` with a `channel_mask`.
            is_last: Whether no other follower comes after: the last one multiplies.
        """
        # Weakly: as an attribute the layer would be one inside of this one.
        self._source = weakref.ref(layer)
        if is_last and (mask := layer.channel_mask) is not None:
            mask.act_behind(self)

    def source(self) -> MaskedLayer | None:
        """The masked layer whose channels it switches, or None."""
        return None if self._source is None else self._source()

    def switched(self, outputs: Tensor) -> Tensor:
        """`H(s) * outputs` in the last follower, else `outputs`."""
        source = self.source()
        mask = None if source is None else source.channel_mask
        if source is None or mask is None or mask.acts_behind() is not self:
            return outputs
        return switch_channels(outputs, mask.switches(), source.channel_axis)

    def stripped_weights(self) -> list[tuple[keras.Variable, Tensor]]:
        """Pairs of a weight and its values with zeros where a channel is cut."""
        return []


@keras.saving.register_keras_serializable("scl_keras")
class MaskedBatchNormalization(ChannelFollower, layers.BatchNormalization):
    """`keras.layers.BatchNormalization` behind a layer whose masks switch channels.

    Forward: `H(s) * BN(x)`, or `BN(x)` if an activation follows that is switched. See
    `ChannelFollower`.

    Args:
        *args: Arguments of `keras.layers.BatchNormalization`, in its order.
        **kwargs: Keyword arguments of `keras.layers.BatchNormalization`.

    Input shape:
        As `keras.layers.BatchNormalization`. Output shape: the same.

    Example:

    ```python
    inputs = keras.Input((28, 28, 3))
    x = MaskedConv2D(8, 3, granularity="channel")(inputs)
    model = SCLModel(inputs, MaskedReLU()(MaskedBatchNormalization()(x)))
    ```
    """

    stock_class = layers.BatchNormalization

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`H(s) * BN(x)`."""
        return self.switched(super().call(inputs, training=training, mask=mask))

    def stripped_weights(self) -> list[tuple[keras.Variable, Tensor]]:
        """Pairs of a weight and its values with zeros where a channel is cut."""
        source = self.source()
        mask = None if source is None else source.channel_mask
        if mask is None:
            return []
        switches = ops.reshape(mask.switches(), (-1,))
        weights = [self.gamma, self.beta, self.moving_mean]
        return [(w, w * ops.cast(switches, w.dtype)) for w in weights if w is not None]


@keras.saving.register_keras_serializable("scl_keras")
class MaskedReLU(ChannelFollower, layers.ReLU):
    """`keras.layers.ReLU` behind a layer whose masks switch channels.

    Forward: `H(s) * relu(x)`. See `ChannelFollower`.

    Args:
        *args: Arguments of `keras.layers.ReLU`, in its order.
        **kwargs: Keyword arguments of `keras.layers.ReLU`.

    Input shape:
        As `keras.layers.ReLU`. Output shape: the same.

    Example:

    ```python
    inputs = keras.Input((28, 28, 3))
    x = MaskedConv2D(8, 3, granularity="channel")(inputs)
    model = SCLModel(inputs, MaskedReLU(6.0)(x))
    ```
    """

    stock_class = layers.ReLU

    def call(self, inputs: Tensor) -> Tensor:
        """`H(s) * relu(x)`."""
        return self.switched(super().call(inputs))


@keras.saving.register_keras_serializable("scl_keras")
class MaskedActivation(ChannelFollower, layers.Activation):
    """`keras.layers.Activation` behind a layer whose masks switch channels.

    Forward: `H(s) * activation(x)`. See `ChannelFollower`.

    Args:
        *args: Arguments of `keras.layers.Activation`, in its order.
        **kwargs: Keyword arguments of `keras.layers.Activation`.

    Input shape:
        As `keras.layers.Activation`. Output shape: the same.

    Example:

    ```python
    inputs = keras.Input((28, 28, 3))
    x = MaskedConv2D(8, 3, granularity="channel")(inputs)
    model = SCLModel(inputs, MaskedActivation("relu")(x))
    ```
    """

    stock_class = layers.Activation

    def call(self, inputs: Tensor) -> Tensor:
        """`H(s) * activation(x)`."""
        return self.switched(super().call(inputs))


FOLLOWERS = {
    x.stock_class: x for x in (MaskedBatchNormalization, MaskedReLU, MaskedActivation)
}
"""Followers by the stock layers that they stand for."""


def connect_followers(model):
    """Has the followers of a graph follow the masked layers before them."""
    if not is_graph(model) or not any(
        isinstance(layer, ChannelFollower) for layer in walk_inside(model)
    ):
        return
    for layer, behind in chains(model):
        switches = isinstance(layer, MaskedLayer) and layer.channel_mask is not None
        if switches and all(isinstance(x, ChannelFollower) for x in behind):
            for follower in behind:
                follower.follow(layer, follower is behind[-1])


def chains(model):
    """Layers, and what follows each of them and is their channels' alone.

    Args:
        model: A built functional or Sequential model.

    Returns:
        A list of pairs: a layer, and a list of one or two layers: a batch normalization
        of its channels, an activation, or one after the other. All are called once, and
        activations map zero to zero.
    """
    graph = trace(model)
    readers, calls = {}, {}
    for call in graph.calls:
        calls[id(call.operation)] = calls.get(id(call.operation), 0) + 1
        for x in call.inputs:
            readers.setdefault(id(x), []).append(call)
    for x in graph.outputs:
        readers.setdefault(id(x), []).append(None)

    def next_of(call):
        """The only reader of a call's only output, if both are called once."""
        behind = readers.get(id(call.outputs[0]), [])
        single = len(call.outputs) == len(behind) == 1 and behind[0] is not None
        both = (call, *behind)
        once = single and all(calls[id(x.operation)] == 1 for x in both)
        return behind[0] if once else None

    found = []
    for call in graph.calls:
        behind, at = [], next_of(call)
        if at is None or not keeps_zero(call.operation):
            continue
        if _normalizes(at.operation, call):
            behind.append(at.operation)
            at = next_of(at)
        if at is not None and _activates(at.operation):
            behind.append(at.operation)
        if behind:
            found.append((call.operation, behind))
    return found


def _normalizes(layer, call):
    x = call.outputs[0]
    first = getattr(call.operation, "data_format", None) == "channels_first"
    axis = 1 if first else len(x.shape) - 1
    return (
        isinstance(layer, layers.BatchNormalization)
        and layer.axis % len(x.shape) == axis
    )


def _activates(layer):
    return (isinstance(layer, layers.ReLU) and not layer.threshold) or (
        isinstance(layer, layers.Activation) and keeps_zero(layer)
    )
