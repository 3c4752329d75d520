"""Masked attention."""

import keras

from scl_keras.layers.masked_layer import MaskedLayer


@keras.saving.register_keras_serializable("scl_keras")
class MaskedMultiHeadAttention(MaskedLayer, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` with masked projections.

    Forward: as stock, with a `MaskedEinsumDense` each for query, key, value and output.

    Args:
        *args: Arguments of `keras.layers.MultiHeadAttention`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.MultiHeadAttention`.

    Input shape:
        Query `(batch, targets, dim)`, value and key `(batch, sources, dim)`. Output
        shape: `(batch, targets, dim)`.

    Example:

    ```python
    layer = MaskedMultiHeadAttention(num_heads=2, key_dim=4)
    x = keras.ops.ones((2, 5, 3))
    layer(x, x).shape  # (2, 5, 3)
    ```
    """


@keras.saving.register_keras_serializable("scl_keras")
class MaskedGroupQueryAttention(MaskedLayer, keras.layers.GroupQueryAttention):
    """`keras.layers.GroupQueryAttention` with masked projections.

    Forward: as stock, with a `MaskedEinsumDense` each for query, key, value and output.

    Args:
        *args: Arguments of `keras.layers.GroupQueryAttention`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.GroupQueryAttention`.

    Input shape:
        Query `(batch, targets, dim)`, value and key `(batch, sources, dim)`. Output
        shape: `(batch, targets, dim)`.

    Example:

    ```python
    layer = MaskedGroupQueryAttention(4, 4, 2)
    x = keras.ops.ones((2, 5, 3))
    layer(x, x).shape  # (2, 5, 3)
    ```
    """
