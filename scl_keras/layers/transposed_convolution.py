"""Masked transposed convolutions."""

import keras

from scl_keras.layers.declarations import MaskedBias, MaskedKernel
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.positions import at_inputs


@keras.saving.register_keras_serializable("scl_keras")
class MaskedConv1DTranspose(MaskedLayer, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with a learned mask over its kernel.

    Forward: `activation(x ⋆ᵀ (v * H(s)) + b)`. The kernel has the shape
    `(*kernel_size, filters, channels)`: its features are on the last axis but one.

    Args:
        *args: Arguments of `keras.layers.Conv1DTranspose`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Conv1DTranspose`.

    Input shape:
        `(batch, steps, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.Conv1DTranspose`.

    Example:

    ```python
    layer = MaskedConv1DTranspose(8, 3, strides=2, padding="same")
    layer(keras.ops.ones((2, 6, 3))).shape  # (2, 12, 8)
    ```
    """

    kernel = MaskedKernel((-2,), at_inputs)
    bias = MaskedBias()


@keras.saving.register_keras_serializable("scl_keras")
class MaskedConv2DTranspose(MaskedLayer, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a learned mask over its kernel.

    Forward: `activation(x ⋆ᵀ (v * H(s)) + b)`. The kernel has the shape
    `(*kernel_size, filters, channels)`: its features are on the last axis but one.

    Args:
        *args: Arguments of `keras.layers.Conv2DTranspose`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Conv2DTranspose`.

    Input shape:
        `(batch, height, width, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.Conv2DTranspose`.

    Example:

    ```python
    layer = MaskedConv2DTranspose(8, 3, strides=2, padding="same")
    layer(keras.ops.ones((2, 6, 6, 3))).shape  # (2, 12, 12, 8)
    ```
    """

    kernel = MaskedKernel((-2,), at_inputs)
    bias = MaskedBias()


@keras.saving.register_keras_serializable("scl_keras")
class MaskedConv3DTranspose(MaskedLayer, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with a learned mask over its kernel.

    Forward: `activation(x ⋆ᵀ (v * H(s)) + b)`. The kernel has the shape
    `(*kernel_size, filters, channels)`: its features are on the last axis but one.

    Args:
        *args: Arguments of `keras.layers.Conv3DTranspose`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Conv3DTranspose`.

    Input shape:
        `(batch, depth, height, width, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.Conv3DTranspose`.

    Example:

    ```python
    layer = MaskedConv3DTranspose(8, 3, strides=2, padding="same")
    layer(keras.ops.ones((2, 6, 6, 6, 3))).shape  # (2, 12, 12, 12, 8)
    ```
    """

    kernel = MaskedKernel((-2,), at_inputs)
    bias = MaskedBias()
