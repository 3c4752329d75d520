"""`.keras` files, read and written."""

from __future__ import annotations

import pathlib
import uuid
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def read_model(path: str, compiled: bool = False) -> keras.Model:
    """Reads a model.

    Args:
        path: A `.keras` file.
        compiled: Whether to compile it as it was.

    Returns:
        The model.

    Raises:
        ValueError: If it is another kind of file, or Keras can't make the model.
        OSError: If it can't be opened.
    """
    import keras

    with open(path, "rb"):  # whose errors say what is wrong
        pass
    if not path.endswith(".keras") or not _is_model(path):
        raise ValueError(
            f"{path} is no `.keras` file, as `model.save('model.keras')` writes it. "
            "Load others in Python, and save them so."
        )
    try:
        # `safe_mode` stays on: a file must not bring code of its own.
        return keras.saving.load_model(path, compile=compiled)
    except Exception as error:  # whatever a layer's `from_config` raises
        raise ValueError(
            f"{path}: Keras can't load the model. {_advice(error)}\n"
            f"{type(error).__name__}: {error}"
        ) from error


def check_can_export() -> None:
    """Refuses, before there is work, what only TensorFlow can do.

    Raises:
        ValueError: On another backend.
    """
    from scl_keras import backend

    try:
        backend.check_can_export()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def check_out(path: str, suffix: str) -> None:
    """Refuses, before there is work, a path that nothing can be written to.

    Raises:
        ValueError: If it has another suffix, or is a folder, or its folder isn't there.
    """
    out = pathlib.Path(path)
    if out.suffix != suffix:
        raise ValueError(f"--out must end in {suffix!r}. Received: {path}")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out must be a file in a folder that is there. Got: {path}")


def write_model(model: keras.Model, path: str) -> None:
    """Writes a model as a whole or not at all."""
    out = pathlib.Path(path)
    # In the same folder, for a rename across file systems is a copy.
    partial = out.with_name(f".{out.stem}.{uuid.uuid4().hex}.keras")
    try:
        model.save(partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _is_model(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return "config.json" in file.namelist()


def _advice(error):
    text = str(error)
    if "safe_mode" in text or "unsafe" in text:
        return (
            "It holds Python code, of a `Lambda` layer for example, which isn't run "
            "from a file. Put the code into a registered class, and name its module "
            "by --import."
        )
    if isinstance(error, TypeError) or "Unknown" in text or "locate" in text:
        return (
            "Where it has classes or functions of your own, register them, "
            "`@keras.saving.register_keras_serializable()`, and name their module by "
            "--import=my_module."
        )
    return "It may be damaged, or written by another version."
