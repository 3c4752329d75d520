"""Masked depthwise and separable convolutions."""

import keras

from scl_keras.layers.declarations import MaskedBias, MaskedKernel
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.positions import at_outputs


@keras.saving.register_keras_serializable("scl_keras")
class MaskedDepthwiseConv1D(MaskedLayer, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with a learned mask over its kernel.

    Forward: `activation(x ⋆ (v * H(s)) + b)`, channel by channel. The kernel has the
    shape `(*kernel_size, channels, depth_multiplier)`: its features are on the last two
    axes.

    Args:
        *args: Arguments of `keras.layers.DepthwiseConv1D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.DepthwiseConv1D`.

    Input shape:
        `(batch, steps, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.DepthwiseConv1D`.

    Example:

    ```python
    layer = MaskedDepthwiseConv1D(3, depth_multiplier=2)
    layer(keras.ops.ones((2, 6, 3))).shape  # (2, 4, 6)
    ```
    """

    kernel = MaskedKernel((-2, -1))
    bias = MaskedBias()


@keras.saving.register_keras_serializable("scl_keras")
class MaskedDepthwiseConv2D(MaskedLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a learned mask over its kernel.

    Forward: `activation(x ⋆ (v * H(s)) + b)`, channel by channel. The kernel has the
    shape `(*kernel_size, channels, depth_multiplier)`: its features are on the last two
    axes.

    Args:
        *args: Arguments of `keras.layers.DepthwiseConv2D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.DepthwiseConv2D`.

    Input shape:
        `(batch, height, width, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.DepthwiseConv2D`.

    Example:

    ```python
    layer = MaskedDepthwiseConv2D(3, depth_multiplier=2)
    layer(keras.ops.ones((2, 6, 6, 3))).shape  # (2, 4, 4, 6)
    ```
    """

    kernel = MaskedKernel((-2, -1))
    bias = MaskedBias()


@keras.saving.register_keras_serializable("scl_keras")
class MaskedSeparableConv1D(MaskedLayer, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with a learned mask over each of its two kernels.

    Forward: `activation((x ⋆ (v_d * H(s_d))) ⋆ (v_p * H(s_p)) + b)`, depthwise and
    then pointwise. The features of the first are on the last two axes, those of the
    second on the last.

    Args:
        *args: Arguments of `keras.layers.SeparableConv1D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.SeparableConv1D`.

    Input shape:
        `(batch, steps, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.SeparableConv1D`.

    Example:

    ```python
    layer = MaskedSeparableConv1D(8, 3)
    layer(keras.ops.ones((2, 6, 3))).shape  # (2, 4, 8)
    ```
    """

    depthwise_kernel = MaskedKernel((-2, -1), at_outputs)
    pointwise_kernel = MaskedKernel((-1,), at_outputs)
    bias = MaskedBias("pointwise_kernel")


@keras.saving.register_keras_serializable("scl_keras")
class MaskedSeparableConv2D(MaskedLayer, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with a learned mask over each of its two kernels.

    Forward: `activation((x ⋆ (v_d * H(s_d))) ⋆ (v_p * H(s_p)) + b)`, depthwise and
    then pointwise. The features of the first are on the last two axes, those of the
    second on the last.

    Args:
        *args: Arguments of `keras.layers.SeparableConv2D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.SeparableConv2D`.

    Input shape:
        `(batch, height, width, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.SeparableConv2D`.

    Example:

    ```python
    layer = MaskedSeparableConv2D(8, 3)
    layer(keras.ops.ones((2, 6, 6, 3))).shape  # (2, 4, 4, 8)
    ```
    """

    depthwise_kernel = MaskedKernel((-2, -1), at_outputs)
    pointwise_kernel = MaskedKernel((-1,), at_outputs)
    bias = MaskedBias("pointwise_kernel")
