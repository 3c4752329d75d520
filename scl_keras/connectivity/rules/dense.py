"""Rules of dense layers."""

from keras import layers, ops

from scl_keras.connectivity.channel_rules import new_channels
from scl_keras.connectivity.layer_rules import LayerRule, register_rule
from scl_keras.connectivity.shrinking import kept_biases


def _dense(layer, x, kernel):
    return ops.matmul(x, kernel)


def _shrink_dense(layer, weights, kept):
    kernel, *biases = weights
    biases = kept_biases(biases, kept)
    changes = {"units": kept.units, "use_bias": bool(biases)}
    return changes, [kernel[kept.inputs][:, kept.outputs], *biases]


register_rule(
    layers.Dense,
    rule=LayerRule(
        reach=_dense,
        kernels=("kernel",),
        mixes_channels=True,
        folds_constants=True,
        shrink=_shrink_dense,
        input_axis=-2,
    ),
)


def _einsum(layer, x, kernel):
    return ops.einsum(layer.equation, x, kernel)


def _is_like_dense(layer):
    """Whether an `EinsumDense` computes what a `Dense` does."""
    inputs, rest = layer.equation.replace(" ", "").replace("...", "").split(",")
    kernel, outputs = rest.split("->")
    return (
        len(kernel) == 2
        and inputs[-1:] == kernel[0]
        and outputs == inputs[:-1] + kernel[1]
        and layer.bias_axes in (None, kernel[1])
    )


def _einsum_channels(classes, call, xs):
    like_dense = _is_like_dense(call.operation)
    return new_channels(classes, call, xs) if like_dense else None


def _shrink_einsum(layer, weights, kept):
    kernel, *biases = weights
    biases = kept_biases(biases, kept)
    changes = {"output_shape": (*layer.partial_output_shape[:-1], kept.units)}
    if biases:
        changes["bias_axes"] = layer.equation.replace(" ", "")[-1]
    return changes, [kernel[kept.inputs][:, kept.outputs], *biases]


register_rule(
    layers.EinsumDense,
    rule=LayerRule(
        reach=_einsum,
        kernels=("kernel",),
        mixes_channels=True,
        folds_constants=True,
        channels=_einsum_channels,
        shrink=_shrink_einsum,
    ),
)
