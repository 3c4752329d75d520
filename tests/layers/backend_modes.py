"""The ways in which the Keras backend at hand runs a function."""

import keras
import numpy as np
import pytest

ON_JAX = keras.backend.backend() == "jax"
ON_TORCH = keras.backend.backend() == "torch"
# Elsewhere Keras computes some functions of float64 in float32, such as `tanh`.
IN_FLOAT64 = keras.backend.backend() == "tensorflow"
DIFFERENCE = 1e-6 if IN_FLOAT64 else 1e-3
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6} if IN_FLOAT64 else {"rtol": 2e-2, "atol": 2e-3}

MODES = {
    "tensorflow": ["graph", "jit"],
    "jax": ["jit"],
    "torch": ["eager"],
}[keras.backend.backend()]


def skip_what_stock_layers_cannot(case, policy):
    """Skips what fails with Keras's own layer on this backend, too."""
    name = case.name
    if ON_JAX and policy == "float64" and name in ("SimpleRNN", "SimpleRNNCell"):
        pytest.skip("Keras's tanh of float64 is float32 on JAX, which its loop refuses")
    attention = name in ("MultiHeadAttention", "GroupQueryAttention")
    if ON_JAX and policy == "mixed_float16" and attention:
        pytest.skip("JAX has no float16 attention on CPUs")


def run(function, x, mode):
    """A function's result for a tensor."""
    if mode == "eager":
        return function(x)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)(x)
    import tensorflow as tf

    return tf.function(function, jit_compile=mode == "jit")(x)


def assert_same_gradients(found, expected, mixed=False):
    """Bit for bit where compiled: eagerly, those of a loop's steps are added otherwise.

    And those of float16 are added up in float32 where a mask is.
    """
    if not ON_TORCH and not (ON_JAX and mixed):
        np.testing.assert_array_equal(found, expected)
        return
    rtol = 4e-3 if mixed else 1e-5
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)
