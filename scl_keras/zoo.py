"""Trained sparse networks, loaded by name.

An entry `NAME` of the zoo is five files in one folder:

    NAME.keras      a stock Keras model with zeros in its kernels
    NAME.tflite     what `export_tflite` wrote of it
    NAME.masks.npz  its masks, one bit a connection
    NAME.json       its card: data, command, seed, versions, figures, SHA-256
    NAME.md         the card to read

They are in `saved_models/` of a clone, and a wheel brings them along. Nothing is
downloaded. Entries of one's own are made by `examples/zoo/make_card.py`, and found
where `folder` or the environment variable `SCL_KERAS_ZOO` says.
"""

import importlib.metadata
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from scl_keras import checks

__all__ = ["load", "load_card", "load_masks", "names", "path_of", "save_masks"]

_VARIABLE = "SCL_KERAS_ZOO"
_SUFFIXES = (".keras", ".tflite", ".masks.npz", ".json", ".md")


def names(folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the zoo's entries.

    Args:
        folder: Folder of the zoo; by default that of the environment variable
            `SCL_KERAS_ZOO`, else the one that came with this package.

    Returns:
        A sorted list of strings.

    Raises:
        FileNotFoundError: If there is no such folder.

    Example:

    ```python
    "digits_lenet_300_100" in scl_keras.zoo.names()  # True
    ```
    """
    return sorted(path.stem for path in _folder(folder).glob("*.json"))


def load(name: str, folder: str | os.PathLike[str] | None = None) -> keras.Model:
    """Loads a trained sparse network by its name.

    Args:
        name: One of `names()`.
        folder: As for `names`.

    Returns:
        A stock Keras model with zeros in its kernels, not compiled: images in [0, 1] of
        the data set that its card names go in, logits come out. `sparsify(model,
        ste=None)` and `load_masks` make one with masks of it, to train on.

    Raises:
        ValueError: If there is no entry of that name.
        FileNotFoundError: If there is no such folder.

    Example:

    ```python
    model = scl_keras.zoo.load("digits_lenet_300_100")
    scl_keras.summary(model)
    ```
    """
    return keras.saving.load_model(path_of(name, ".keras", folder), compile=False)


def load_card(
    name: str, folder: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """What is known of an entry: a dict, as in its JSON file.

    Args:
        name: One of `names()`.
        folder: As for `names`.

    Raises:
        ValueError: If there is no entry of that name, or its file is no JSON object.
        FileNotFoundError: If there is no such folder.

    Example:

    ```python
    card = scl_keras.zoo.load_card("digits_lenet_300_100")
    card["dataset"]  # 'digits'
    ```
    """
    path = path_of(name, ".json", folder)
    try:
        card = json.loads(path.read_text())
        problem = "" if isinstance(card, dict) else f"holds a {type(card).__name__}"
    except ValueError as error:
        problem = f"can't be read: {error}"
    if problem:
        raise ValueError(
            f"The card of {name!r} must be a JSON object. Received: {str(path)!r}, "
            f"which {problem}"
        )
    return card


def load_masks(
    name: str, folder: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """The masks of an entry.

    Args:
        name: One of `names()`.
        folder: As for `names`.

    Returns:
        Dict from a kernel's label, such as `"dense_1/kernel"`, to a boolean array of
        its shape: whether a connection is kept.

    Raises:
        ValueError: If there is no entry of that name, or its file isn't one that
            `save_masks` wrote: lengths are compared before memory is taken for them.
        FileNotFoundError: If there is no such folder.

    Example:

    ```python
    masks = scl_keras.zoo.load_masks("digits_lenet_300_100")
    masks["logits/kernel"].shape  # (100, 10)
    ```
    """
    path = path_of(name, ".masks.npz", folder)
    try:
        return _masks_in(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # of the many that broken archives raise
        raise ValueError(
            f"The masks of {name!r} must be a file that `save_masks` wrote. "
            f"Received: {str(path)!r}, which can't be read: {error!r}"
        ) from error


def save_masks(path: str | os.PathLike[str], masks: Mapping[str, np.ndarray]) -> None:
    """Writes masks as an entry of the zoo has them: one bit a connection, compressed.

    Args:
        path: File to write, ending in ".npz".
        masks: Dict from labels to boolean arrays.

    Raises:
        ValueError: If `masks` is something else.

    Example:

    ```python
    kept = {"dense/kernel": np.eye(8, dtype=bool)}
    scl_keras.zoo.save_masks("eight.masks.npz", kept)
    ```
    """
    if not isinstance(masks, Mapping) or not all(
        isinstance(mask, np.ndarray) and mask.dtype == bool for mask in masks.values()
    ):
        wanted = "a dict from kernels' labels to boolean arrays"
        raise checks.refusal("masks", masks, wanted)
    checks.path("path", path)
    arrays: dict[str, Any] = {label: np.packbits(mask) for label, mask in masks.items()}
    shapes: dict[str, Any] = {
        label + _SHAPE: mask.shape for label, mask in masks.items()
    }
    np.savez_compressed(path, **arrays, **shapes)


def path_of(
    name: str, suffix: str, folder: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Where a file of an entry is.

    Args:
        name: One of `names()`.
        suffix: `".keras"`, `".tflite"`, `".masks.npz"`, `".json"` or `".md"`.
        folder: As for `names`.

    Returns:
        A `pathlib.Path`.

    Raises:
        ValueError: If there is no entry of that name, or no such suffix.
        FileNotFoundError: If there is no such folder.

    Example:

    ```python
    scl_keras.zoo.path_of("digits_lenet_300_100", ".tflite").name
    ```
    """
    checks.one_of("suffix", suffix, _SUFFIXES)
    known = names(folder)
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"The zoo in {_folder(folder)} has no model of that name, but: "
            f"{', '.join(known) or 'none at all'}. Received: name={name!r}"
        )
    return _folder(folder) / f"{name}{suffix}"


_SHAPE = "/shape"


def _masks_in(path):
    # Opened here: an archive that breaks off half-way doesn't always close its file.
    with path.open("rb") as opened, zipfile.ZipFile(opened) as file:
        arrays = {
            info.filename.removesuffix(".npy"): _array(file, info, path)
            for info in file.infolist()
        }
    labels = [key for key in arrays if not key.endswith(_SHAPE)]
    if alone := {key.removesuffix(_SHAPE) for key in arrays} - {*labels}:
        raise ValueError(f"{min(alone)!r} has a shape and no bits")
    return {label: _unpacked(arrays[label], arrays[label + _SHAPE]) for label in labels}


def _array(file, info, path):
    """An array of an archive, whose header may not claim more than there is."""
    if info.file_size > _MOST_DEFLATED * path.stat().st_size:
        raise ValueError(f"{info.filename!r} claims to have {info.file_size} bytes")
    with file.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"{info.filename!r} has version {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        size = info.file_size - member.tell()
        if (
            len(shape) != 1
            or dtype.kind not in "iu"
            or dtype.itemsize * shape[0] != size
        ):
            raise ValueError(
                f"{info.filename!r} has {size} bytes for {dtype} of shape {shape}"
            )
        return np.frombuffer(member.read(), dtype)


_MOST_DEFLATED = 1032  # how many times shorter deflate can make bytes


def _unpacked(bits, shape):
    shape = [int(size) for size in shape]
    count = math.prod(shape)
    if (
        min(shape, default=0) < 0
        or bits.dtype != np.uint8
        or len(bits) != -(-count // 8)
    ):
        raise ValueError(f"{len(bits)} {bits.dtype} can't be a mask of shape {shape}")
    return np.unpackbits(bits, count=count).astype(bool).reshape(shape)


def _folder(folder):
    if folder is not None:
        checks.path("folder", folder)
    given = folder or os.environ.get(_VARIABLE)
    if given:
        if not pathlib.Path(given).is_dir():
            raise FileNotFoundError(
                "The zoo must be a folder that exists. Received: "
                f"{'folder' if folder else _VARIABLE}={str(given)!r}"
            )
        return pathlib.Path(given)
    found = _in_clone() or _installed()
    if found is None:
        raise FileNotFoundError(
            "This installation of scl_keras came without its zoo. Say where it is, by "
            f"`folder` or by the environment variable {_VARIABLE}: it is the folder "
            "`saved_models` of the repository."
        )
    return found


def _in_clone():
    root = pathlib.Path(__file__).resolve().parents[1]
    is_clone = (root / "saved_models").is_dir() and (root / "setup.cfg").exists()
    return root / "saved_models" if is_clone else None


def _installed():
    """Where the wheel has put it: under `share/` of the environment."""
    try:
        files = importlib.metadata.files("scl_keras") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.parent.name == "saved_models" and file.locate().exists():
            return pathlib.Path(file.locate()).resolve().parent
    return None
