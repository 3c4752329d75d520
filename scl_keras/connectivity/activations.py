"""What activation functions do to reachability."""

import functools

import keras
from keras import ops

from scl_keras.connectivity import operations
from scl_keras.connectivity.layer_rules import rule_of
from scl_keras.connectivity.operations import operation_stand_in
from scl_keras.connectivity.reach import elementwise, mixed_along
from scl_keras.graph.tracing import trace


def activated(activation, y, shape):
    """Applies an activation to what `LayerRule.reach` returns.

    Args:
        activation: Function or layer, or None.
        y: What it returns.
        shape: Shape of the layer's output.

    Returns:
        A tensor of the shape `shape`.
    """
    if is_elementwise(activation):
        return y
    if activation in _ALONG_LAST_AXIS:
        return mixed_along(y, -1)
    return ops.broadcast_to(ops.sum(y), shape)


def is_known_activation(activation):
    """Whether it is known on what each output of an activation function depends."""
    return is_elementwise(activation) or activation in _ALONG_LAST_AXIS


def is_elementwise(activation):
    """Whether each output of an activation is known to depend on one input alone."""
    if activation is None:
        return True
    if isinstance(activation, keras.layers.Layer):
        return rule_of(activation).reach is elementwise
    return activation in _ELEMENTWISE or _is_made_of_elementwise(activation)


@functools.cache
def _is_made_of_elementwise(activation):
    """Whether a function of one's own calls nothing but elementwise operations."""
    x = keras.Input(batch_shape=(1, 3))
    try:
        calls = trace(keras.Model(x, activation(x))).calls
    except Exception:  # whatever isn't made for such tensors may raise
        return False
    return all(
        operation_stand_in(call.operation) is operations.elementwise for call in calls
    )


_FUNCTIONS = [
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu"),
    *("swish", "sigmoid", "tanh", "exponential", "mish", "softplus", "softsign"),
    *("hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "hard_shrink"),
    *("log_sigmoid", "soft_shrink", "sparse_plus", "sparse_sigmoid", "squareplus"),
    *("tanh_shrink", "threshold", "exp", "sin", "cos", "square", "abs"),
]
_ELEMENTWISE = {
    getattr(module, name)
    for module in (keras.activations, ops)
    for name in _FUNCTIONS
    if hasattr(module, name)
}
_ALONG_LAST_AXIS = {
    *(keras.activations.softmax, keras.activations.log_softmax),
    *(ops.softmax, ops.log_softmax),
}
