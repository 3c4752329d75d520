"""Batch normalization whose channels are switched with those of the layer before."""

import keras
from keras import ops

from scl_keras.graph import is_graph, walk_layers
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.trace import trace


@keras.saving.register_keras_serializable("scl_keras")
class MaskedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` behind a layer whose masks switch channels.

    Forward: `H(s) * BN(x)`, with the mask of the layer that makes `x`, whose own kernel
    is left unmasked then: the same function, as a channel that is cut is zero. There it
    has to act, for two reasons:

    - A filter in front of batch normalization can be scaled at will without any effect,
      so that its gradient has no part along itself, `Σ dL/dw · w = 0`: a mask over all
      of it would learn nothing. Here, `dL/ds = p(s) · Σ dL/dy · BN(x)`, what the
      channel is worth, also while it is cut (the criterion of Molchanov et al.,
      *Importance Estimation for Neural Network Pruning*, arXiv 1906.10771).
    - Normalization makes a constant `beta - ...` of a filter of zeros, which can't be
      removed in front of a convolution that pads with zeros.

    `sparsify(model, granularity="channel")` puts it behind each masked layer where
    nothing else reads that layer's output, and `SCLModel(inputs, outputs)` connects the
    two; by itself it is the stock layer, which `strip_masks` makes of it again.

    Args:
        *args: Arguments of `keras.layers.BatchNormalization`, in its order.
        **kwargs: Keyword arguments of `keras.layers.BatchNormalization`.

    Input shape:
        As `keras.layers.BatchNormalization`. Output shape: the same.

    Example:

    ```python
    inputs = keras.Input((28, 28, 3))
    x = MaskedConv2D(8, 3, granularity="channel")(inputs)
    model = SCLModel(inputs, MaskedBatchNormalization()(x))
    ```
    """

    stock_class = keras.layers.BatchNormalization

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._switches = None

    def follow(self, layer):
        """Switches its channels with those of a masked layer, its only source."""
        layer.channel_mask.acts_later = True
        # A function: as an attribute the mask would be a weight of both layers.
        self._switches = layer.channel_mask.switches

    def call(self, inputs, training=None, mask=None):
        """`H(s) * BN(x)`."""
        outputs = super().call(inputs, training=training, mask=mask)
        switches = self.switches(outputs.dtype)
        if switches is None:
            return outputs
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        return outputs * ops.reshape(switches, shape)

    def switches(self, dtype="float32"):
        """`H(s)` of the channels, a vector, or None without a layer to follow."""
        if self._switches is None:
            return None
        return ops.reshape(self._switches(dtype), (-1,))

    def strip_into(self, stock):
        """Makes channels that are cut zero in a stock layer with the same weights."""
        switches = self.switches()
        for weight in (stock.gamma, stock.beta, stock.moving_mean):
            if switches is not None and weight is not None:
                weight.assign(weight * ops.cast(switches, weight.dtype))


def connect_normalizations(model):
    """Has each `MaskedBatchNormalization` of a graph follow the layer before it."""
    if not is_graph(model) or not any(
        isinstance(layer, MaskedBatchNormalization) for layer in walk_layers(model)
    ):
        return
    for layer, normalization in normalized_layers(model):
        if (
            isinstance(normalization, MaskedBatchNormalization)
            and isinstance(layer, MaskedLayer)
            and layer.channel_mask is not None
        ):
            normalization.follow(layer)


def normalized_layers(model):
    """Layers whose channels are read by one batch normalization, and nothing else.

    Args:
        model: A built functional or Sequential model.

    Returns:
        A list of pairs, layer and `BatchNormalization`. Both are called once, the
        activation of the layer maps zero to zero, and its channels are those that are
        normalized.
    """
    graph = trace(model)
    source, uses, calls = {}, {}, {}
    for call in graph.calls:
        calls[id(call.operation)] = calls.get(id(call.operation), 0) + 1
        for x in call.outputs:
            source[id(x)] = call
        for x in call.inputs:
            uses[id(x)] = uses.get(id(x), 0) + 1
    for x in graph.outputs:
        uses[id(x)] = uses.get(id(x), 0) + 1
    pairs = []
    for call in graph.calls:
        normalization, before = call.operation, source.get(id(call.inputs[0]))
        if (
            isinstance(normalization, keras.layers.BatchNormalization)
            and before is not None
            and uses[id(call.inputs[0])] == 1
            and calls[id(normalization)] == calls[id(before.operation)] == 1
            and _makes_channels(before.operation, normalization, call.inputs[0])
        ):
            pairs.append((before.operation, normalization))
    return pairs


def _makes_channels(layer, normalization, x):
    rank = len(x.shape)
    first = getattr(layer, "data_format", None) == "channels_first"
    activation = getattr(layer, "activation", None)
    return normalization.axis % rank == (1 if first else rank - 1) and (
        activation is None
        or not ops.convert_to_numpy(activation(ops.zeros((1, 1)))).any()
    )
