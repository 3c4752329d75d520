"""Masked convolutions."""

import keras

from scl_keras.layers.declarations import MaskedBias, MaskedKernel
from scl_keras.layers.masked_layer import MaskedLayer


@keras.saving.register_keras_serializable("scl_keras")
class MaskedConv1D(MaskedLayer, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a learned mask over its kernel.

    Forward: `activation(x ⋆ (v * H(s)) + b)`. See `MaskedLayer` for the backward pass.

    Args:
        *args: Arguments of `keras.layers.Conv1D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Conv1D`.

    Input shape:
        `(batch, steps, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.Conv1D`.

    Example:

    ```python
    layer = MaskedConv1D(8, 3, padding="same")
    layer(keras.ops.ones((2, 6, 3))).shape  # (2, 6, 8)
    ```
    """

    kernel = MaskedKernel()
    bias = MaskedBias()


@keras.saving.register_keras_serializable("scl_keras")
class MaskedConv2D(MaskedLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a learned mask over its kernel.

    Forward: `activation(x ⋆ (v * H(s)) + b)`. See `MaskedLayer` for the backward pass.

    Args:
        *args: Arguments of `keras.layers.Conv2D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Conv2D`.

    Input shape:
        `(batch, height, width, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.Conv2D`.

    Example:

    ```python
    layer = MaskedConv2D(8, 3, padding="same")
    layer(keras.ops.ones((2, 6, 6, 3))).shape  # (2, 6, 6, 8)
    ```
    """

    kernel = MaskedKernel()
    bias = MaskedBias()


@keras.saving.register_keras_serializable("scl_keras")
class MaskedConv3D(MaskedLayer, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a learned mask over its kernel.

    Forward: `activation(x ⋆ (v * H(s)) + b)`. See `MaskedLayer` for the backward pass.

    Args:
        *args: Arguments of `keras.layers.Conv3D`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Conv3D`.

    Input shape:
        `(batch, depth, height, width, channels)`, or channels first with
        `data_format="channels_first"`. Output shape: as
        `keras.layers.Conv3D`.

    Example:

    ```python
    layer = MaskedConv3D(8, 3, padding="same")
    layer(keras.ops.ones((2, 6, 6, 6, 3))).shape  # (2, 6, 6, 6, 8)
    ```
    """

    kernel = MaskedKernel()
    bias = MaskedBias()
