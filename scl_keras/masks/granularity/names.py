"""Granularities by their names and in files."""

import keras

from scl_keras.masks.granularity.base import Connection, Granularity
from scl_keras.masks.granularity.channel import Channel

_BY_NAME = {"connection": Connection, "channel": Channel}


def get(identifier):
    """Finds a granularity.

    Args:
        identifier: `"connection"`, `"channel"`, a `Granularity`, or what `serialize`
            gave.

    Returns:
        A `Granularity`.

    Raises:
        ValueError: If there is no such granularity.

    Example:

    ```python
    get("channel")  # Channel(axes=None)
    ```
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in _BY_NAME:
        identifier = _BY_NAME[identifier]()
    if not isinstance(identifier, Granularity):
        raise ValueError(
            f"`granularity` must be one of {sorted(_BY_NAME)} or a `Granularity` "
            f"object, such as `Block(4)`. Received: granularity={identifier!r}"
        )
    return identifier


def serialize(granularity):
    """The granularity as a JSON-able dict, which `get` reads."""
    return keras.saving.serialize_keras_object(granularity)
