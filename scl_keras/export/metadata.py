"""What a file says of itself."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras._version import __version__
from scl_keras.export.flat_model import FlatModel

_NAME = b"scl_keras"


def add_metadata(file: bytes, facts: dict[str, Any]) -> bytes:
    """Returns a file with facts about it, as an entry of its metadata in JSON.

    Args:
        file: The bytes of a TFLite file.
        facts: What `json` can write.

    Returns:
        The bytes of the file, which computes the same.
    """
    flat = FlatModel(file)
    text = json.dumps({"version": __version__, **facts}, separators=(",", ":"))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    flat.model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(flat.model.buffers) - 1
    others = [e for e in flat.model.metadata or [] if e.name != _NAME]
    flat.model.metadata = [*others, entry]
    return flat.to_bytes()


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `export_tflite` wrote into a file about it.

    Args:
        path: A TFLite file.

    Returns:
        A dict: `version` of scl_keras, `candidate` (see `ExportReport`), `weights` and
        `nonzero` (how many weights its kernels have, and how many aren't zero).

    Raises:
        ValueError: If `export_tflite` did not write the file.

    Example:
    ```python
    report = export_tflite(model, "model.tflite", samples=x, latency_seconds=0)
    read_metadata("model.tflite")["candidate"] == report.candidate  # True
    ```
    """
    file = pathlib.Path(path).read_bytes()
    if file[4:8] == b"TFL3":
        model = FlatModel(file).model
        for entry in model.metadata or ():
            if entry.name == _NAME:
                return json.loads(bytes(model.buffers[entry.buffer].data))
    raise ValueError(
        f"`path` must be a file that `export_tflite` wrote. Received: {str(path)!r}"
    )
