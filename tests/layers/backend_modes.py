"""The ways in which the Keras backend at hand runs a function."""

import keras

MODES = {
    "tensorflow": ["graph", "jit"],
    "jax": ["jit"],
    "torch": ["eager"],
}[keras.backend.backend()]


def run(function, x, mode):
    """A function's result for a tensor."""
    if mode == "eager":
        return function(x)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)(x)
    import tensorflow as tf

    return tf.function(function, jit_compile=mode == "jit")(x)
