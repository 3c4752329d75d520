"""The switcher network: from what is known of a connection to its switch."""

from collections.abc import Sequence

import keras
from keras import ops

from scl_keras import checks
from scl_keras.switcher.features import FEATURES


def switcher_network(
    units: Sequence[int] = (16,), name: str = "switcher"
) -> keras.Model:
    """Builds the default switcher network, a perceptron for each connection.

    It is shared by all connections of all layers, so that its size doesn't grow with
    theirs, and permuting a layer's inputs or outputs permutes its switches alike. It
    starts out by keeping every connection, and ranking them by their magnitude within
    the layer: a tenth of the feature "log magnitude", plus 0.4, plus hidden layers that
    contribute zero at first.

    Any other Keras model with this signature may take its place: float32 features of
    shape `(connections, len(FEATURES))` in, one number each of shape `(connections, 1)`
    out, each from its own features alone. A connection is kept where the number is
    greater than a threshold, which the connection cost moves and which is 0 at first.
    Let not all numbers be equal at first, or all connections are cut at once. It is
    called with `training=False`, and with the connections of one block at a time.

    Args:
        units: Number of units of each hidden layer.
        name: Name of the network.

    Returns:
        A functional `keras.Model`, float32 in every precision policy.

    Raises:
        ValueError: If `units` is something else.

    Example:

    ```python
    model = SwitcherModel(dense_model)
    model.compile("adam", "mse", switcher=switcher_network(units=(32, 32)))
    ```
    """
    if units != ():
        wanted = "a tuple of whole numbers >= 1, one a hidden layer"
        units = checks.integers("units", units, wanted, least=1)
    inputs = keras.Input((len(FEATURES),), dtype="float32", name="features")
    x = inputs
    for number, size in enumerate(units, start=1):
        x = keras.layers.Dense(
            size,
            activation="relu",
            kernel_initializer="he_normal",
            dtype="float32",
            name=f"hidden_{number}",
        )(x)
    learned = keras.layers.Dense(
        1, kernel_initializer="zeros", use_bias=False, dtype="float32", name="learned"
    )(x)
    linear = keras.layers.Dense(
        1,
        bias_initializer=keras.initializers.Constant(_START),
        dtype="float32",
        name="linear",
    )
    by_magnitude = linear(inputs)
    linear.kernel.assign([[_SLOPE * (x == "log magnitude")] for x in FEATURES])
    outputs = keras.layers.Add(dtype="float32", name="output")([by_magnitude, learned])
    return keras.Model(inputs, outputs, name=name)


_SLOPE = 0.1
_START = 0.4  # log(0.001) / 2 is about -3.5


def check_network(network):
    """Calls a user's switcher network on two connections.

    Raises:
        ValueError: If it is no Keras model with the signature of `switcher_network`.
    """
    wanted = (
        "`switcher` must be a Keras model (or layer) from features of shape "
        f"(connections, {len(FEATURES)}) to numbers of shape (connections, 1); see "
        "`switcher_network`. "
    )
    if not isinstance(network, keras.layers.Layer):
        raise ValueError(f"{wanted}Received: switcher={network!r}")
    try:
        shape = tuple(network(ops.zeros((2, len(FEATURES)))).shape)
    except Exception as error:
        raise ValueError(f"{wanted}Received one that fails: {error}") from error
    if shape != (2, 1):
        raise ValueError(f"{wanted}Received one with outputs of shape {shape}")
