"""What one mask variable switches: a connection, a block, a channel, and N of M."""

from scl_keras.masks.granularity.base import Connection, Granularity
from scl_keras.masks.granularity.block import Block
from scl_keras.masks.granularity.channel import Channel
from scl_keras.masks.granularity.n_of_m import NM
from scl_keras.masks.granularity.names import get, serialize

__all__ = [
    "NM",
    "Block",
    "Channel",
    "Connection",
    "Granularity",
    "get",
    "serialize",
]
