"""What is zero for any input where the channels of a layer are switched off."""

import keras
import numpy as np
from keras import ops

from scl_keras.connectivity.channel_rules import multiplied_channels
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operations import is_product
from scl_keras.layers.channels import keeps_zero


def zero_tensors(call, calls, followers):
    """The tensors of a graph that are zero where what a call makes is switched off.

    A product is zero where one factor is, and other operations where all that they read
    is, if they make zero of zero. Layers with biases or statistics of their own don't.

    Args:
        call: `Call` of a layer that has a switch for each of its channels.
        calls: The calls of its graph, in their order.
        followers: Ids of the layers behind it that are switched with it.

    Returns:
        The set of their ids.
    """
    if not keeps_zero(call.operation):
        return set()
    zero = {id(x) for x in call.outputs}
    for other in calls:
        read = [id(x) in zero for x in other.inputs]
        if any(read) and (
            is_product(other.operation)
            or id(other.operation) in followers
            or (all(read) and _makes_zero_of_zero(other))
        ):
            zero.update(id(x) for x in other.outputs)
    return zero


def _makes_zero_of_zero(call):
    operation = call.operation
    if rule_of(operation).channels is multiplied_channels:
        return not operation.use_bias and keeps_zero(operation)
    if getattr(operation, "weights", None):
        return False
    args, kwargs = keras.tree.map_structure(
        lambda x: (
            ops.zeros(x.shape, x.dtype) if isinstance(x, keras.KerasTensor) else x
        ),
        (call.args, call.kwargs),
    )
    outputs = keras.tree.flatten(operation(*args, **kwargs))
    return not any(np.any(ops.convert_to_numpy(x)) for x in outputs)
