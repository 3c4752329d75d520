"""A data set in one NumPy file, for machines without TFDS or TensorFlow."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scl_keras.files import write_whole

_SPLITS = ("train", "test")


def write_packed(
    path: str | os.PathLike[str],
    splits: Mapping[str, tuple[np.ndarray | Sequence[bytes], np.ndarray]],
    num_classes: int,
) -> None:
    """Writes images and labels to one compressed file of NumPy.

    Args:
        path: The file, which is replaced if it is there.
        splits: By "train" and "test": images, a uint8 array or the bytes of an image
            file each, and labels.
        num_classes: Number of classes.
    """
    arrays: dict[str, Any] = {"num_classes": num_classes}
    for split, (images, labels) in splits.items():
        arrays[f"y_{split}"] = labels
        if isinstance(images, np.ndarray):
            arrays[f"x_{split}"] = images
        else:
            arrays[f"files_{split}"] = np.frombuffer(b"".join(images), "uint8")
            arrays[f"ends_{split}"] = np.cumsum([len(x) for x in images])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read_packed(
    path: str | os.PathLike[str],
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """Reads what `write_packed` wrote: uint8 images and labels by split, and classes.

    Image files are decoded by Pillow. Decoders of JPEG differ by a few of 255 levels.
    """
    found = {}
    with np.load(path) as arrays:
        for split in _SPLITS:
            if f"x_{split}" in arrays:
                images = arrays[f"x_{split}"]
            else:
                images = _decoded(arrays[f"files_{split}"], arrays[f"ends_{split}"])
            found[split] = images, arrays[f"y_{split}"]
        return found, int(arrays["num_classes"])


def _decoded(files, ends):
    from PIL import Image

    pieces = np.split(files, ends[:-1])
    return np.stack([np.asarray(Image.open(io.BytesIO(x.tobytes()))) for x in pieces])
