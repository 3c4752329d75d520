"""A folder with one backup, and the checksums that prove it whole."""

import hashlib
import json
import os
import re

CHECKSUMS = "checksums.json"
_WEIGHTS, _METADATA = "latest.weights.h5", "training_metadata.json"  # Keras's names
_NAME = re.compile(r"epoch_(\d{6,})")


def seal(folder):
    """Writes the checksums of a folder's files, and has all of them on the disk.

    Args:
        folder: The `pathlib.Path` of a folder in which Keras has written a backup.
    """
    files = sorted(x for x in folder.iterdir() if x.name != CHECKSUMS)
    text = json.dumps({file.name: _checksum(file) for file in files}, indent=1)
    (folder / CHECKSUMS).write_text(text)
    for file in folder.iterdir():
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def epoch_of(folder):
    """The epoch that a backup goes on with by its name; None for other names."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None


def fault_of(folder):
    """Why a folder can't be trusted as a backup: a text, or None if it can be."""
    epoch = epoch_of(folder)
    if epoch is None:
        return "its name has no number of an epoch"
    try:
        return _fault_inside(folder, epoch)
    except OSError as error:
        return f"it can't be read: {error}"


def _fault_inside(folder, epoch):
    if not folder.is_dir():
        return "it is no folder"
    if not any(folder.iterdir()):
        return "it is empty"
    if not (folder / CHECKSUMS).is_file():
        return f"it has no {CHECKSUMS}, without which nothing proves it whole"
    sums = _read_json(folder / CHECKSUMS)
    if not isinstance(sums, dict) or not {_WEIGHTS, _METADATA} <= sums.keys():
        return f"its {CHECKSUMS} is damaged"
    for name, expected in sums.items():
        if not (folder / name).is_file():
            return f"its {name} is missing"
        if _checksum(folder / name) != expected:
            return f"its {name} is damaged: the checksum is another one"
    metadata = _read_json(folder / _METADATA)
    found = metadata.get("epoch") if isinstance(metadata, dict) else metadata
    if type(found) is not int or found != epoch:
        return f"its {_METADATA} doesn't say epoch {epoch}, but {found!r}"
    return None


def _checksum(file):
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_json(file):
    """What a JSON file holds; None if it is none."""
    try:
        return json.loads(file.read_bytes())
    except ValueError:  # also what no text can be made of
        return None
