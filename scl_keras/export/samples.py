"""The caller's samples, in the order and the dtype of a model's inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from scl_keras.backend.keras_private import is_optional
from scl_keras.export.names import file_names

Samples = ArrayLike | Sequence[Any] | Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A model's inputs and samples of them.

    Attributes:
        structure: How the model nests its inputs, with None for each optional one that
            the samples leave out.
        signature: The others one after the other, with the names that files have.
        arrays: The samples of each of them, batch axis first.
    """

    structure: Any
    signature: tuple[tf.TensorSpec, ...]
    arrays: tuple[np.ndarray, ...]


def read_samples(model: keras.Model, samples: Samples) -> Inputs:
    """Checks samples, and brings them into the form of a model's inputs.

    Args:
        model: A built Keras model.
        samples: Arrays nested as the model's inputs are, or one after the other, or by
            name; None for an optional one that is left out.

    Returns:
        The model's inputs.

    Raises:
        ValueError: If the samples don't fit the model.
    """
    structure = _structure(model)
    if structure is None:  # a subclassed model: the samples show what it takes
        structure = _nested_arrays(samples)
        leaves = keras.tree.flatten(structure)
        names = file_names(leaf_names(structure, "input"), "input")
        given = leaves
    else:
        leaves = keras.tree.flatten(structure)
        names = file_names([leaf.name for leaf in leaves], "input")
        given = _match(structure, leaves, names, samples)
        for leaf, array in zip(leaves, given, strict=True):
            if array is None and not is_optional(leaf):
                raise ValueError(
                    f"`samples` must have an array for input {leaf.name!r}, which "
                    "isn't optional. Received: None"
                )
    present = [i for i, array in enumerate(given) if array is not None]
    if not present:
        raise ValueError(
            "`samples` must hold an array for one input at least. Received: None only"
        )
    signature = tuple(_spec(leaves[i], names[i]) for i in present)
    arrays = tuple(
        _check_array(given[i], spec) for i, spec in zip(present, signature, strict=True)
    )
    if len({len(array) for array in arrays}) != 1:
        raise ValueError(
            "All arrays in `samples` must have the same number of samples. "
            f"Received: {[len(array) for array in arrays]}"
        )
    kept = [leaf if i in present else None for i, leaf in enumerate(leaves)]
    return Inputs(keras.tree.pack_sequence_as(structure, kept), signature, arrays)


def leaf_names(structure: Any, prefix: str) -> list[str]:
    """Returns the leaves' paths as names, or `prefix`_0, `prefix`_1, ..."""
    names = []
    for path, _ in keras.tree.flatten_with_path(structure):
        parts = [str(part) for part in path]
        if not parts or parts[0].isdigit():
            parts = [prefix, *(parts or ["0"])]
        names.append("_".join(parts))
    return names


def _structure(model: keras.Model) -> Any:
    """Returns how a model nests its symbolic inputs; None if it has none."""
    symbolic = getattr(model, "inputs", None)
    if not symbolic:
        return None
    # A Sequential has `inputs`, but no `input` before it is called.
    return symbolic[0] if isinstance(model, keras.Sequential) else model.input


def _spec(leaf: Any, name: str) -> tf.TensorSpec:
    if not isinstance(leaf, np.ndarray):
        return tf.TensorSpec(leaf.shape, leaf.dtype, name)
    dtype = keras.config.floatx() if leaf.dtype.kind == "f" else leaf.dtype.name
    return tf.TensorSpec((None, *leaf.shape[1:]), dtype, name)


class _OtherForm(Exception):
    """Raised where samples aren't nested as the inputs are."""


def _match(
    structure: Any, leaves: Sequence[Any], names: Sequence[str], samples: Samples
) -> list[np.ndarray | None]:
    """Returns an array for each of the model's inputs, or None."""
    if samples is None:  # of all inputs, and not of an optional one
        return [_as_array(samples)]
    try:
        return keras.tree.flatten(_in_form_of(structure, samples))
    except _OtherForm:
        pass
    if isinstance(samples, Mapping):
        return _by_name(leaves, names, samples)
    if not isinstance(samples, list | tuple):
        if len(leaves) == 1 or isinstance(samples, str):
            return [_as_array(samples)]
        samples = (samples,)
    if len(leaves) == 1 and _rank(samples) == len(leaves[0].shape):
        return [_as_array(samples)]  # rows, rather than arrays of several inputs
    if len(samples) != len(leaves):
        raise ValueError(
            "`samples` must be nested as the model's inputs are, or hold one array for "
            f"each of the model's {len(leaves)} inputs. Received: {len(samples)} arrays"
        )
    return [None if value is None else _as_array(value) for value in samples]


def _in_form_of(structure: Any, samples: Any) -> Any:
    """Returns samples as arrays, nested as the inputs are."""
    if isinstance(structure, Mapping):
        if not isinstance(samples, Mapping) or not set(samples) <= set(structure):
            raise _OtherForm
        missing = [structure[key] for key in structure if key not in samples]
        if not all(map(is_optional, keras.tree.flatten(missing))):
            raise _OtherForm
        return {
            key: _in_form_of(inner, samples[key])
            if key in samples
            else keras.tree.map_structure(lambda leaf: None, inner)
            for key, inner in structure.items()
        }
    if isinstance(structure, list | tuple):
        if not isinstance(samples, list | tuple) or len(samples) != len(structure):
            raise _OtherForm
        pairs = zip(structure, samples, strict=True)
        return [_in_form_of(inner, value) for inner, value in pairs]
    if isinstance(samples, Mapping):
        raise _OtherForm
    if isinstance(samples, list | tuple) and _rank(samples) != len(structure.shape):
        raise _OtherForm
    return None if samples is None else _as_array(samples)


def _by_name(
    leaves: Sequence[Any], names: Sequence[str], samples: Mapping[str, Any]
) -> list[np.ndarray | None]:
    """Returns the samples of each input by its name, in the model or in the file."""
    own = [leaf.name for leaf in leaves]
    needed = {leaf.name for leaf in leaves if not is_optional(leaf)}
    known: Sequence[str] = own if set(samples) <= set(own) else names
    given = {
        leaf.name: samples[name]
        for leaf, name in zip(leaves, known, strict=True)
        if name in samples
    }
    if len(given) != len(samples) or not needed <= set(given):
        raise ValueError(
            f"`samples` must have the model's inputs {sorted(own)} as keys. "
            f"Received: samples with keys {sorted(map(str, samples))}"
        )
    values = [given.get(name) for name in own]
    return [None if value is None else _as_array(value) for value in values]


def _nested_arrays(samples: Any) -> Any:
    """Returns samples as arrays, nested as they are: each list has several inputs."""
    if isinstance(samples, Mapping):
        return {key: _nested_arrays(value) for key, value in samples.items()}
    if isinstance(samples, list | tuple):
        return [None if v is None else _nested_array(v) for v in samples]
    return _as_array(samples)


def _nested_array(value: Any) -> Any:
    is_nested = isinstance(value, Mapping | list | tuple) and _rank(value) is None
    return _nested_arrays(value) if is_nested else _as_array(value)


def _rank(value: Any) -> int | None:
    """Returns the rank of nested numbers; None for what isn't one array of them."""
    try:
        array = np.asarray(value)
    except Exception:  # rows of different lengths
        return None
    return array.ndim if _is_number(array.dtype) else None


def _is_number(dtype: np.dtype) -> bool:
    """Whether it is one of NumPy's numbers or bfloat16, which NumPy doesn't know."""
    return dtype.kind in "fiub" or dtype.name == "bfloat16"


def _as_array(value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype == object:  # of rows, or of Python's numbers
            array = np.array(array.tolist())
    except Exception as error:
        raise ValueError(
            "`samples` must be an array of numbers, or a list or dict of such, and all "
            f"samples of one input of the same shape. Received: samples of type "
            f"{type(value).__name__}, of which NumPy makes no array: {error}"
        ) from error
    if not _is_number(array.dtype):
        raise ValueError(
            "`samples` must be an array of numbers, or a list or dict of such: inputs "
            "of text, for example, must become numbers outside of the exported model. "
            f"Received: samples of type {type(value).__name__} and dtype {array.dtype}"
        )
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _check_array(array: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    if array.ndim != spec.shape.rank or not spec.shape[1:].is_compatible_with(
        array.shape[1:]
    ):
        raise ValueError(
            f"`samples` for input {spec.name!r} must have the shape "
            f"{tuple(spec.shape)}, batch axis first. Received: shape {array.shape}"
        )
    if not len(array):
        raise ValueError(
            "`samples` must hold at least one real input to compare the file on. "
            f"Received: shape {array.shape}"
        )
    dtype = spec.dtype.as_numpy_dtype
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(
            f"`samples` for input {spec.name!r} must be {np.dtype(dtype).name}. "
            f"Received: dtype {array.dtype}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"`samples` for input {spec.name!r} must be finite. Received: "
            f"{np.count_nonzero(~np.isfinite(array))} NaN or infinite values"
        )
    return array.astype(dtype)
