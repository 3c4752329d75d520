"""Masked embeddings."""

from typing import Any

import keras

from scl_keras.layers.declarations import MaskedKernel
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.positions import at_reversals, nowhere


@keras.saving.register_keras_serializable("scl_keras")
class MaskedEmbedding(MaskedLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` with a learned mask over its table.

    Forward: `(v * H(s))[x]`. As in a `Dense` layer on one-hot inputs, the features are
    the output's: the last axis. A lookup costs no multiply-accumulate, and with
    `cost="macs"` its connections are free.

    Args:
        *args: Arguments of `keras.layers.Embedding`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Embedding`.

    Input shape:
        Integers `(batch, ...)`. Output shape: `(batch, ..., output_dim)`.

    Example:

    ```python
    layer = MaskedEmbedding(100, 8)
    layer(keras.ops.ones((2, 5), "int32")).shape  # (2, 5, 8)
    ```
    """

    embeddings = MaskedKernel(positions=nowhere)

    def __init__(self, *args: Any, weights: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if weights is not None:  # which the stock layer takes before it has masks
            self.build()
            table = weights[0] if isinstance(weights, list) else weights
            self.embeddings.assign(table)


if hasattr(keras.layers, "ReversibleEmbedding"):  # Keras 3.13 on

    @keras.saving.register_keras_serializable("scl_keras")
    class MaskedReversibleEmbedding(MaskedLayer, keras.layers.ReversibleEmbedding):
        """`keras.layers.ReversibleEmbedding` with a learned mask over each table.

        Forward: `(v * H(s))[x]`, and with `reverse=True`, from embeddings to tokens,
        `x · (v * H(s))ᵀ`, or with a table of its own for that.

        Args:
            *args: Arguments of `keras.layers.ReversibleEmbedding`, in its order.
            mask_initializer: Initializer of the mask variables, a number or a name.
            ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
            granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
            mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
            **kwargs: Keyword arguments of `keras.layers.ReversibleEmbedding`.

        Input shape:
            Integers `(batch, ...)`, or `(batch, ..., output_dim)` in reverse. Output
            shape: `(batch, ..., output_dim)`, or `(batch, ..., input_dim)`.

        Example:

        ```python
        layer = MaskedReversibleEmbedding(100, 8)
        x = layer(keras.ops.ones((2, 5), "int32"))
        layer(x, reverse=True).shape  # (2, 5, 100)
        ```
        """

        embeddings = MaskedKernel(positions=at_reversals)
        reverse_embeddings = MaskedKernel(
            positions=at_reversals, when=lambda layer: not layer.tie_weights
        )
