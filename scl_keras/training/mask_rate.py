"""The rate at which mask variables learn, and how it falls on the way to a target."""

import dataclasses
import math
from typing import ClassVar

import keras
from keras import ops

DEFAULT_MASK_LEARNING_RATE = 3e-3


@dataclasses.dataclass(frozen=True)
class MaskRate:
    """The learning rate of the masks' optimizer.

    It falls if nobody has chosen the optimizer. With a constant rate, connections that
    matter little would be cut and come back until they are frozen, in whatever state
    they are in then. (This is ours, not the paper's.)

    Attributes:
        optimizer: The optimizer of the masks.
        falls: Whether the rate falls. That of an optimizer which was given is its own.
    """

    optimizer: keras.optimizers.Optimizer
    falls: bool

    @property
    def now(self) -> float:
        """How far mask variables fall in an update for each unit of cost, a float."""
        return float(ops.convert_to_numpy(self.optimizer.learning_rate))

    def at(self, share: float, falls_from: float = 0.0) -> float:
        """The rate at a share of the way to a target.

        If it falls, it is 0.003 until `falls_from`, and then
        `0.003 · (1 + cos(π · (share - falls_from) / (1 - falls_from))) / 2`.

        Args:
            share: Float from 0, where training begins, to 1, where masks freeze.
            falls_from: The share from which on it falls, a float in [0, 1).

        Returns:
            A float.
        """
        if not self.falls:
            return self.now
        share = max(share - falls_from, 0.0) / (1 - falls_from)
        return DEFAULT_MASK_LEARNING_RATE * (1 + math.cos(math.pi * share)) / 2

    def set(self, share: float, falls_from: float = 0.0) -> None:
        """Sets the rate to `at(share, falls_from)`, if it falls."""
        if self.falls:
            self.optimizer.learning_rate.assign(self.at(share, falls_from))


@dataclasses.dataclass(frozen=True)
class ConstantRate:
    """A rate that never changes, in place of a `MaskRate`.

    Attributes:
        now: The rate, a float.
    """

    now: float
    falls: ClassVar[bool] = False

    def at(self, share: float, falls_from: float = 0.0) -> float:
        """The same anywhere."""
        return self.now

    def set(self, share: float, falls_from: float = 0.0) -> None:
        """Nothing."""
