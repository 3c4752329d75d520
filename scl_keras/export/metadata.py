"""What a file says of itself."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras import checks
from scl_keras._version import __version__
from scl_keras.export.flat_model import FlatModel

_NAME = b"scl_keras"
_KINDS = {"version": str, "candidate": str, "weights": int, "nonzero": int}
_MOST = 1000  # entries of metadata: a file may refer to a long one again and again


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
        ValueError: If `export_tflite` did not write the file, or it is damaged.
        OSError: If it can't be opened.

    Example:
    ```python
    report = export_tflite(model, "model.tflite", samples=x, latency_seconds=0)
    read_metadata("model.tflite")["candidate"] == report.candidate  # True
    ```
    """
    file = pathlib.Path(checks.path("path", path)).read_bytes()
    try:
        facts = _facts_in(file)
    except Exception as error:  # whatever reading offsets out of range comes to
        raise _not_ours(path, f", which can't be read: {error!r}") from error
    if facts is None:
        raise _not_ours(path, "")
    return facts


def _facts_in(file):
    """What stands in the metadata of a file, or None: nothing else of it is read."""
    if file[4:8] != b"TFL3":
        return None
    model = schema.Model.GetRootAs(file)
    if model.MetadataLength() > _MOST:
        raise ValueError(f"it claims to have {model.MetadataLength()} entries")
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == _NAME:
            text = model.Buffers(entry.Buffer()).DataAsNumpy()
            facts = json.loads(bytes(text).decode())
            if any(type(facts[key]) is not kind for key, kind in _KINDS.items()):
                raise ValueError(f"it says {facts!r}")
            return facts
    return None


def _not_ours(path, problem):
    return ValueError(
        "`path` must be a file that `export_tflite` wrote, as it wrote it. "
        f"Received: path={str(path)!r}{problem}"
    )
