"""Masked recurrent cells, layers, and the wrapper that runs two of them."""

import keras

from scl_keras.layers.declarations import MaskedKernel
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.positions import at_outputs


@keras.saving.register_keras_serializable("scl_keras")
class MaskedSimpleRNNCell(MaskedLayer, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` with a learned mask over each of its two kernels.

    Forward: `h' = activation(x · (v * H(s)) + h · (v_r * H(s_r)) + b)`.
    Each gate of each unit is a feature: the last axis.

    Args:
        *args: Arguments of `keras.layers.SimpleRNNCell`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.SimpleRNNCell`.

    Input shape:
        `(batch, features)`, and the states. Output shape: `(batch, units)`, and the
        states.

    Example:

    ```python
    layer = keras.layers.RNN(MaskedSimpleRNNCell(8))
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 8)
    ```
    """

    kernel = MaskedKernel(positions=at_outputs)
    recurrent_kernel = MaskedKernel(positions=at_outputs)


@keras.saving.register_keras_serializable("scl_keras")
class MaskedSimpleRNN(MaskedLayer, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with a masked cell.

    Forward: as stock, with `MaskedSimpleRNNCell` for a cell.

    Args:
        *args: Arguments of `keras.layers.SimpleRNN`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.SimpleRNN`.

    Input shape:
        `(batch, steps, features)`. Output shape: `(batch, units)`, or
        `(batch, steps, units)` with `return_sequences=True`.

    Example:

    ```python
    layer = MaskedSimpleRNN(8)
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 8)
    ```
    """


@keras.saving.register_keras_serializable("scl_keras")
class MaskedGRUCell(MaskedLayer, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with a learned mask over each of its two kernels.

    Forward: as stock, with the kernels `v * H(s)` and `v_r * H(s_r)`.
    Each gate of each unit is a feature: the last axis.

    Args:
        *args: Arguments of `keras.layers.GRUCell`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.GRUCell`.

    Input shape:
        `(batch, features)`, and the states. Output shape: `(batch, units)`, and the
        states.

    Example:

    ```python
    layer = keras.layers.RNN(MaskedGRUCell(8))
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 8)
    ```
    """

    kernel = MaskedKernel(positions=at_outputs)
    recurrent_kernel = MaskedKernel(positions=at_outputs)


@keras.saving.register_keras_serializable("scl_keras")
class MaskedGRU(MaskedLayer, keras.layers.GRU):
    """`keras.layers.GRU` with a masked cell.

    Forward: as stock, with `MaskedGRUCell` for a cell.

    Args:
        *args: Arguments of `keras.layers.GRU`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.GRU`.

    Input shape:
        `(batch, steps, features)`. Output shape: `(batch, units)`, or
        `(batch, steps, units)` with `return_sequences=True`.

    Example:

    ```python
    layer = MaskedGRU(8)
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 8)
    ```
    """


@keras.saving.register_keras_serializable("scl_keras")
class MaskedLSTMCell(MaskedLayer, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with a learned mask over each of its two kernels.

    Forward: as stock, with the kernels `v * H(s)` and `v_r * H(s_r)`.
    Each gate of each unit is a feature: the last axis.

    Args:
        *args: Arguments of `keras.layers.LSTMCell`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.LSTMCell`.

    Input shape:
        `(batch, features)`, and the states. Output shape: `(batch, units)`, and the
        states.

    Example:

    ```python
    layer = keras.layers.RNN(MaskedLSTMCell(8))
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 8)
    ```
    """

    kernel = MaskedKernel(positions=at_outputs)
    recurrent_kernel = MaskedKernel(positions=at_outputs)


@keras.saving.register_keras_serializable("scl_keras")
class MaskedLSTM(MaskedLayer, keras.layers.LSTM):
    """`keras.layers.LSTM` with a masked cell.

    Forward: as stock, with `MaskedLSTMCell` for a cell.

    Args:
        *args: Arguments of `keras.layers.LSTM`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.LSTM`.

    Input shape:
        `(batch, steps, features)`. Output shape: `(batch, units)`, or
        `(batch, steps, units)` with `return_sequences=True`.

    Example:

    ```python
    layer = MaskedLSTM(8)
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 8)
    ```
    """


@keras.saving.register_keras_serializable("scl_keras")
class MaskedBidirectional(MaskedLayer, keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` with masked layers in it.

    Forward: as stock. The layers given to it are masked, if they aren't yet. (Other
    wrappers take masked layers as they are; this one may hand the kernels of both
    layers to one fused operation.)

    Args:
        *args: Arguments of `keras.layers.Bidirectional`, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
        granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
        mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
        **kwargs: Keyword arguments of `keras.layers.Bidirectional`.

    Input shape:
        `(batch, steps, features)`. Output shape: as `keras.layers.Bidirectional`.

    Example:

    ```python
    layer = MaskedBidirectional(keras.layers.LSTM(8))
    layer(keras.ops.ones((2, 5, 3))).shape  # (2, 16)
    ```
    """
