"""Channels of tensors, and which of them can only be removed together."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Channels:
    """The channels of one tensor: its slices along one axis.

    Attributes:
        axis: The axis, the batch's counted.
        ids: Array of the axis' length: the class that each slice belongs to.
    """

    axis: int
    ids: np.ndarray


class ChannelClasses:
    """Classes of channels that stay or go together.

    Each channel has an id, several ids may be of one class, and a class can be pinned:
    its channels stay, for a reason.
    """

    def __init__(self):
        self._parents, self._pinned = [], {}

    def fresh(self, count: int) -> np.ndarray:
        """Ids of `count` new classes."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def pin(self, ids: np.ndarray, reason: str = "") -> None:
        """Keeps the classes of some ids; the first reason that there is stands."""
        for root in self.roots(ids).tolist():
            self._pinned[root] = self._pinned.get(root) or reason

    def pinned(self, x, reason: str = "") -> Channels:
        """New `Channels` of a tensor, along its last axis, that stay."""
        channels = Channels(len(x.shape) - 1, self.fresh(x.shape[-1] if x.shape else 1))
        self.pin(channels.ids, reason)
        return channels

    def unite(self, a: np.ndarray, b: np.ndarray) -> None:
        """Makes one class of each two ids."""
        for x, y in zip(self.roots(a), self.roots(b), strict=True):
            x, y = self._root(x), self._root(y)
            self._parents[y] = x
            if y in self._pinned:
                self._pinned[x] = self._pinned.get(x) or self._pinned[y]

    def roots(self, ids: np.ndarray) -> np.ndarray:
        """One id for each class, in the places of all of its ids."""
        return np.array([self._root(x) for x in np.ravel(ids)], int)

    def _root(self, x):
        while self._parents[x] != x:
            self._parents[x] = x = self._parents[self._parents[x]]
        return x

    @property
    def always_kept(self) -> set:
        """Set of the classes that are pinned, by their roots."""
        return {int(self._root(x)) for x in self._pinned}

    def reason(self, ids: np.ndarray) -> str:
        """Why some of these ids' classes are pinned; empty if none is."""
        found = (self._pinned.get(root) for root in self.roots(ids).tolist())
        return next((reason for reason in found if reason), "")


def channel_axis(layer, rank: int) -> int:
    """The axis of a layer's channels in tensors of a rank, the batch's axis counted."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
