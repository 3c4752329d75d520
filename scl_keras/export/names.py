"""Names of inputs and outputs that a file may have."""

from __future__ import annotations

import keyword
from collections.abc import Iterable

# What TensorFlow calls arguments of its own by, where it makes a SavedModel.
_TAKEN = {"self", "name", "args", "kwargs"}


def file_names(names: Iterable[str], default: str) -> list[str]:
    """Returns the names that a file has for a model's inputs or outputs.

    TensorFlow makes arguments of a Python function of them, and nodes of a graph: ASCII
    letters, digits and underscores, no underscore in front, no keyword, and none that
    differs from another one by capitals only. Most names stay what they are.

    Args:
        names: Those that Keras has.
        default: What to call one of which nothing is left.

    Returns:
        A list of as many names, all different.
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = _clean(name) or default
        unique, count = plain, 1
        while unique.lower() in taken:
            unique, count = f"{plain}_{count}", count + 1
        taken.add(unique.lower())
        found.append(unique)
    return found


def _clean(name: str) -> str:
    kept = (c if c.isascii() and c.isalnum() else "_" for c in name)
    plain = "".join(kept).lstrip("_")
    return f"{plain}_" if keyword.iskeyword(plain) or plain in _TAKEN else plain
