"""Masked fully connected layers."""

import keras

from scl_keras.layers.declarations import MaskedBias, MaskedKernel
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.positions import at_free_axes


@keras.saving.register_keras_serializable("scl_keras")
class MaskedDense(MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a learned mask over its kernel.

    Forward: `activation(x · (v * H(s)) + b)`. See `MaskedLayer` for the backward pass.

    Args:
        *args: Arguments of `keras.layers.Dense`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
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
    bias = MaskedBias()


def _output_axes(layer):
    """The axes of an `EinsumDense` kernel that its output has, too."""
    kernel, _, output = layer.equation.partition(",")[2].partition("->")
    return tuple(i for i, axis in enumerate(kernel) if axis in output)


@keras.saving.register_keras_serializable("scl_keras")
class MaskedEinsumDense(MaskedLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a learned mask over its kernel.

    Forward: `activation(einsum(equation, x, v * H(s)) + b)`. The features are the
    kernel's axes that the output has, too: the last two of `"abc,cde->abde"`.

    Args:
        *args: Arguments of `keras.layers.EinsumDense`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.EinsumDense`.

    Input shape:
        As the equation has it, and so is the output's.

    Example:

    ```python
    layer = MaskedEinsumDense("abc,cde->abde", (None, 4, 5))
    layer(keras.ops.ones((2, 3, 6))).shape  # (2, 3, 4, 5)
    ```
    """

    kernel = MaskedKernel(_output_axes, at_free_axes)
