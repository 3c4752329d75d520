"""Rules of convolutions."""

import numpy as np
from keras import ops

from scl_keras.connectivity.channel_rules import multiplied_channels
from scl_keras.connectivity.layer_rules import LayerRule, register_rule
from scl_keras.connectivity.layer_types import layers_of_ranks
from scl_keras.connectivity.reach import channels_last
from scl_keras.connectivity.shrinking import kept_biases


@channels_last
def _convolution(layer, x, kernel):
    strides = layer.strides
    if set(layer.kernel_size) == {1}:
        # It reads every so many positions alone. Leaving out the others beforehand is
        # less to compute, and TensorFlow 2.21 crashes in the gradient of such strides.
        x = x[(slice(None), *(slice(None, None, step) for step in strides))]
        strides = [1] * len(strides)
    return ops.conv(
        _pad_causally(layer, x),
        kernel,
        strides=list(strides),
        padding=_padding(layer),
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


def _padding(layer):
    return "valid" if layer.padding == "causal" else layer.padding


def _pad_causally(layer, x):
    if layer.padding != "causal":
        return x
    before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    return ops.pad(x, [(0, 0), (before, 0), (0, 0)])


def _pads_nothing(layer):
    return layer.padding == "valid" or set(layer.kernel_size) == {1}


def _groups(layer):
    return layer.groups


def _changes(kept, biases):
    return {"filters": kept.units, "use_bias": bool(biases)}


def _shrink(layer, weights, kept):
    kernel, *biases = weights
    biases = kept_biases(biases, kept)
    groups = [
        part[..., inputs, :][..., outputs]
        for part, inputs, outputs in zip(
            np.split(kernel, layer.groups, axis=-1),
            np.split(kept.inputs, layer.groups),
            np.split(kept.outputs, layer.groups),
            strict=True,
        )
        if outputs.any()
    ]
    kernel = np.concatenate(groups, axis=-1)
    return {**_changes(kept, biases), "groups": len(groups)}, [kernel, *biases]


register_rule(
    *layers_of_ranks("Conv{}D"),
    rule=LayerRule(
        reach=_convolution,
        kernels=("kernel",),
        mixes_channels=True,
        folds_constants=_pads_nothing,
        groups=_groups,
        shrink=_shrink,
        input_axis=-2,
    ),
)


@channels_last
def _transposed_convolution(layer, x, kernel):
    return ops.conv_transpose(
        x,
        kernel,
        strides=list(layer.strides),
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


def _shrink_transposed(layer, weights, kept):
    kernel, *biases = weights
    biases = kept_biases(biases, kept)
    kernel = kernel[..., kept.outputs, :][..., kept.inputs]
    return _changes(kept, biases), [kernel, *biases]


# Fewer of its kernel's places meet at the borders, and at some between strides: what a
# constant adds isn't the same everywhere.
register_rule(
    *layers_of_ranks("Conv{}DTranspose"),
    rule=LayerRule(
        reach=_transposed_convolution,
        kernels=("kernel",),
        mixes_channels=True,
        shrink=_shrink_transposed,
    ),
)


@channels_last
def _depthwise_convolution(layer, x, kernel):
    return ops.depthwise_conv(
        x,
        kernel,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


def _shrink_depthwise(layer, weights, kept):
    kernel, *biases = weights
    return {}, [kernel[..., kept.inputs, :], *kept_biases(biases, kept)]


register_rule(
    *layers_of_ranks("DepthwiseConv{}D", (1, 2)),
    rule=LayerRule(
        reach=_depthwise_convolution,
        kernels=("kernel",),
        channels=multiplied_channels,
        shrink=_shrink_depthwise,
    ),
)


@channels_last
def _separable_convolution(layer, x, depthwise_kernel, pointwise_kernel):
    return ops.separable_conv(
        _pad_causally(layer, x),
        depthwise_kernel,
        pointwise_kernel,
        strides=layer.strides,
        padding=_padding(layer),
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


def _shrink_separable(layer, weights, kept):
    depthwise, pointwise, *biases = weights
    biases = kept_biases(biases, kept)
    rows = np.repeat(kept.inputs, layer.depth_multiplier)
    kernels = [
        depthwise[..., kept.inputs, :],
        pointwise[..., rows, :][..., kept.outputs],
    ]
    return _changes(kept, biases), [*kernels, *biases]


register_rule(
    *layers_of_ranks("SeparableConv{}D", (1, 2)),
    rule=LayerRule(
        reach=_separable_convolution,
        kernels=("depthwise_kernel", "pointwise_kernel"),
        mixes_channels=True,
        folds_constants=_pads_nothing,
        shrink=_shrink_separable,
    ),
)
