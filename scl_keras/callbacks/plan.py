"""What `TargetSparsity` is about: from when to when, and from how many to how many."""

import dataclasses
import math

import keras
import numpy as np

_BASE = 2**30  # of the two digits that a number is kept in


@dataclasses.dataclass
class Plan:
    """The plan of one target, kept in a variable of the optimizer and so in files.

    A training that goes on from a file or a backup is told by it from a new target.

    Attributes:
        begin: The epoch that it begins with, counted from 0.
        end: Number of epochs, from the very first, after which it is met.
        start: The number kept when it begins.
        target: The number to be kept at its end, 0 where there is no plan yet.
        updates: Number of updates of weights and masks before it began.
        epoch: The epoch begun last.
        steps: Number of steps that were counted in an epoch of unknown length, 0 where
            nothing was counted.
        counting: Number of steps before that, in which nothing steered.
        goal: What tells its goal from others, an int from 0.
    """

    begin: int
    end: int
    start: int
    target: int
    updates: int
    epoch: int
    steps: int = 0
    counting: int = 0
    goal: int = 0

    @classmethod
    def read(cls, variable: keras.Variable) -> "Plan":
        """The plan that a variable of shape (9, 2) and dtype int32 holds."""
        digits = keras.ops.convert_to_numpy(variable).tolist()
        return cls(*(high * _BASE + low for high, low in digits))

    def write(self, variable: keras.Variable) -> None:
        """Keeps the plan in a variable of shape (9, 2) and dtype int32.

        The numbers are exact: multiply-accumulates may be more than an int32 holds.
        """
        digits = [divmod(value, _BASE) for value in dataclasses.astuple(self)]
        variable.assign(np.array(digits, "int32"))

    def goes_on(self, other: "Plan", epoch: int) -> bool:
        """Whether an epoch continues this one, if the plan made of anew is `other`."""
        same = (self.end, self.goal) == (other.end, other.goal)
        # A backup in the midst of an epoch begins it again.
        return same and self.epoch <= epoch <= min(self.epoch + 1, self.end)

    @property
    def falls_from(self) -> float:
        """The share of the way from which on the rate of the masks falls.

        `1 - 1 / d` for `d` factors of ten, and 0 for one or less: on a longer way masks
        have to move for longer, and the rate falls over the share of one such factor.
        """
        return 1 - 1 / max(math.log10(self.start / self.target), 1)

    def planned(self, share: float) -> int:
        """The number to be kept at a share of the way, a float from 0 on."""
        logarithm = math.log(self.target / self.start)
        return round(self.start * math.exp(logarithm * ease(share)))


def ease(share: float) -> float:
    """How much of a way is behind at a share of its time: `1 - (1 - t)³`, at most 1."""
    return 1 - (1 - min(share, 1.0)) ** 3
