"""Masked fully connected layer."""

import keras

from scl_keras.layers.masked_layer import MaskedKernel, MaskedLayer


@keras.saving.register_keras_serializable("scl_keras")
class MaskedDense(MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a learned mask over its kernel.

    Forward: `activation(x · (v * H(s)) + b)`. See `MaskedLayer` for the backward pass.

    Args:
        *args: Arguments of `keras.layers.Dense`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        **kwargs: Keyword arguments of `keras.layers.Dense`.

    Input shape:
        `(batch, ..., input_dim)`. Output shape: `(batch, ..., units)`.

    Example:

    ```python
    layer = MaskedDense(10, activation="relu", ste="softplus")
    layer(keras.ops.ones((2, 4))).shape  # (2, 10)
    ```
    """

    kernel = MaskedKernel()
