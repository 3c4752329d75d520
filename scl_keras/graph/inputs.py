"""Inputs on which a model can be called: like its own, or such as it was built on."""

import keras
from keras.backend import is_float_dtype

from scl_keras.backend.keras_private import is_optional


def input_like(tensor, shape=None, dtype=None):
    """A new `keras.Input` like a symbolic tensor.

    Args:
        tensor: A `KerasTensor`.
        shape: Its shape with the batch axis; by default that of the tensor.
        dtype: Its dtype, if it is to be another float type.

    Returns:
        A `KerasTensor` of the same dtype and name; sparse, ragged or optional if that
        one is.
    """
    return keras.Input(
        batch_shape=tensor.shape if shape is None else shape,
        dtype=dtype if dtype and is_float_dtype(tensor.dtype) else tensor.dtype,
        sparse=tensor.sparse,
        ragged=tensor.ragged,
        optional=is_optional(tensor),
        name=tensor.name,
    )


def call_arguments(model):
    """What a model without a graph was built on: inputs for a batch of one.

    Returns:
        A tuple of arguments and a dict of keyword arguments, of `keras.Input`. Keras
        remembers shapes and no dtypes: the inputs are floats.

    Raises:
        ValueError: If the model doesn't remember on what it was built.
    """
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or {"input_shape": config.get("input_shape")}
    if None in shapes.values():
        raise ValueError(
            f"Model '{model.name}' has no graph, and doesn't tell by its build "
            "configuration on inputs of which shapes it was called. Call it on data. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )

    def made(shape):
        return keras.Input(batch_shape=(1, *shape[1:]), dtype=model.input_dtype)

    made = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(made, shape)
        for name, shape in shapes.items()
    }
    if len(made) == 1:
        return tuple(made.values()), {}
    return (), made
