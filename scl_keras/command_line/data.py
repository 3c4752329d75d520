"""Arrays of `.npz` files, as a model's data."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import keras

_SHARE = 0.1  # of the samples, to validate on where the file says nothing of it
_FOUR = ("x_train", "y_train", "x_val", "y_val")
_INPUTS = ("x", "x_val", "x_train")  # where samples are to be had, in this order

Arrays = dict[str, np.ndarray]


def read_arrays(path: str) -> Arrays:
    """Reads an `.npz` file; an `.npy` file is its array `x`.

    Raises:
        ValueError: If it is something else.
        OSError: If it can't be opened.
    """
    with open(path, "rb") as handle:
        try:
            return _arrays_in(handle)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is no .npz file of plain arrays, as `numpy.savez` writes it. "
                f"{type(error).__name__}: {error}"
            ) from error


def _arrays_in(handle: BinaryIO) -> Arrays:
    found = np.load(handle, allow_pickle=False)  # nor is code run from here
    if isinstance(found, np.ndarray):
        return {"x": found}
    arrays = {name: found[name] for name in found.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("it is a zip file of something else than arrays")
    return arrays


def training_data(path: str, model: keras.Model) -> tuple[tuple, tuple]:
    """Training and validation data of a file.

    Args:
        path: A file with `x_train`, `y_train`, `x_val` and `y_val`, or with `x` and
            `y`: of these a tenth, chosen at random but always the same, is validated
            on.
        model: The model that takes them.

    Returns:
        Two pairs of inputs and targets.

    Raises:
        ValueError: If it has other arrays.
    """
    arrays = read_arrays(path)
    found = {name: _nested(arrays, name, model) for name in _FOUR}
    if all(value is not None for value in found.values()):
        x, y, x_val, y_val = found.values()
        return (x, y), (x_val, y_val)
    pair = _nested(arrays, "x", model), _nested(arrays, "y", model)
    if pair[0] is None or pair[1] is None:
        raise _missing(path, arrays, f"x and y, or {', '.join(_FOUR)}")
    count = _length(path, arrays, ("x", "y"))
    order = np.random.default_rng(0).permutation(count)
    held, rest = np.split(order, [max(1, round(_SHARE * count))])
    return _taken(pair, rest), _taken(pair, held)


def all_data(path: str, model: keras.Model) -> tuple[Any, Any]:
    """Inputs and targets: `x` and `y`, or `x_train` and `y_train`.

    Raises:
        ValueError: If the file has other arrays.
    """
    arrays = read_arrays(path)
    for x, y in (("x", "y"), ("x_train", "y_train")):
        pair = _nested(arrays, x, model), _nested(arrays, y, model)
        if pair[0] is not None and pair[1] is not None:
            _length(path, arrays, (x, y))
            return pair
    raise _missing(path, arrays, "x and y, or x_train and y_train")


def samples_and_labels(
    path: str, model: keras.Model, count: int
) -> tuple[Any, np.ndarray | None]:
    """Inputs, and their class indices if there are such.

    Args:
        path: A file with `x`, `x_val` or `x_train`, and maybe what belongs to it.
        model: The model that takes them.
        count: How many to take, at most.

    Returns:
        Inputs, and an array of integers or None.

    Raises:
        ValueError: If the file has other arrays.
    """
    arrays = read_arrays(path)
    for name in _INPUTS:
        x = _nested(arrays, name, model)
        if x is None:
            continue
        length = _length(path, arrays, (name,))
        taken = np.arange(min(count, length))
        y = arrays.get(name.replace("x", "y", 1))
        labels = None
        if y is not None and len(y) == length:
            labels = _class_indices(y[taken], model)
        return _taken(x, taken), labels
    raise _missing(path, arrays, ", or ".join(_INPUTS))


def random_samples(model: keras.Model, count: int) -> dict[str, np.ndarray]:
    """Inputs to run a model on where there are no real ones.

    Raises:
        ValueError: If the model leaves sizes open, or has no inputs that are known.
    """
    tensors = list(getattr(model, "inputs", None) or ())
    if not tensors or any(None in tensor.shape[1:] for tensor in tensors):
        raise ValueError(
            f"Model '{model.name}' doesn't tell the sizes of its inputs: give --data."
        )
    rng = np.random.default_rng(0)
    found = {}
    for tensor in tensors:
        shape = (max(count, tensor.shape[0] or 1), *tensor.shape[1:])
        is_real = "float" in tensor.dtype
        # Zeros and ones are tokens in any vocabulary.
        values = rng.normal(size=shape) if is_real else rng.integers(0, 2, shape)
        found[tensor.name] = values.astype("float32" if is_real else tensor.dtype)
    return found


def _nested(arrays: Arrays, name: str, model: keras.Model) -> Any:
    """An array by its name, or those of several inputs as the model takes them."""
    if name in arrays:
        return arrays[name]
    parts = {
        key.removeprefix(f"{name}."): array
        for key, array in arrays.items()
        if key.startswith(f"{name}.")
    }
    if not parts:
        return None
    side = "inputs" if name.startswith("x") else "outputs"
    order = _names(model, side)
    return [parts[key] for key in order] if set(order) == set(parts) else parts


def _names(model, side):
    """Names of a model's inputs or outputs, of those that take and give a list."""
    nested = getattr(model, side.removesuffix("s"), None) if _is_known(model) else None
    if not isinstance(nested, list | tuple):
        return []
    tensors = getattr(model, side)
    return model.output_names if side == "outputs" else [t.name for t in tensors]


def _is_known(model):
    return bool(getattr(model, "inputs", None)) and hasattr(model, "output_names")


def _taken(nested, rows):
    import keras

    return keras.tree.map_structure(lambda array: array[rows], nested)


def _length(path: str, arrays: Arrays, names: tuple[str, ...]) -> int:
    """The number of samples, the same in all arrays of some names."""
    used = {
        key: array.shape
        for key, array in arrays.items()
        if key.partition(".")[0] in names
    }
    lengths = {shape[:1] for shape in used.values()}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            f"The arrays of {path} must have the same number of samples, and one at "
            f"least. Received: {used}"
        )
    return lengths.pop()[0]


def _class_indices(y, model):
    """Targets as class indices, if that is what they are for this model."""
    from scl_keras.pipeline.data import Data
    from scl_keras.pipeline.dense import labels_of

    shapes = [tensor.shape for tensor in getattr(model, "outputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 2 or (shapes[0][-1] or 0) < 2:
        return None
    found = labels_of(Data((y, y), len(y), "data"))
    return found if found is not None and found.max() < shapes[0][-1] else None


def _missing(path, arrays, wanted):
    shapes = {name: array.shape for name, array in arrays.items()}
    return ValueError(
        f"{path} must have the arrays {wanted}; of several inputs, such as left and "
        f"right, x.left and x.right. Received: {shapes}"
    )
