"""Inputs on which a model can be called: like its own, or such as it was built on."""

import numbers

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


def sized_inputs(model, input_shapes):
    """Inputs like the model's own, with one sample and no open sizes.

    Args:
        model: A functional or Sequential model.
        input_shapes: Shapes without the batch axis: a tuple, or a list of them for
            several inputs. None if the model leaves no sizes open.

    Returns:
        A list of `keras.Input`.

    Raises:
        ValueError: If shapes are missing or don't fit the model.
    """
    own = [tuple(x.shape) for x in model.inputs]
    shapes = [x[1:] for x in own] if input_shapes is None else input_shapes
    if len(own) == 1 and _is_shape(shapes):
        shapes = [shapes]
    fits = (
        isinstance(shapes, (list, tuple))
        and len(shapes) == len(own)
        and all(
            _is_shape(shape)
            and len(shape) == len(x) - 1
            and all(a in (None, size) for size, a in zip(shape, x[1:], strict=True))
            for shape, x in zip(shapes, own, strict=True)
        )
    )
    if not fits:
        raise ValueError(
            f"Model '{model.name}' has inputs of shapes {own}. Which connections are "
            "effective depends on all sizes but the batch's: give `input_shapes`, a "
            "shape without the batch axis for each input, for example (32, 32, 3). "
            f"Received: input_shapes={input_shapes!r}"
        )
    return [
        keras.Input(batch_shape=(x.shape[0] or 1, *shape), dtype=x.dtype, name=x.name)
        for x, shape in zip(model.inputs, shapes, strict=True)
    ]


def _is_shape(shape):
    """Whether it is a shape without open sizes; that of a scalar is empty."""
    return isinstance(shape, (list, tuple)) and all(
        isinstance(size, numbers.Integral) and size > 0 for size in shape
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
