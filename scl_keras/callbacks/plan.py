"""What `TargetSparsity` is about: from when to when, and from how many to how many."""

import dataclasses

import keras


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
    """

    begin: int
    end: int
    start: int
    target: int
    updates: int
    epoch: int

    @classmethod
    def read(cls, variable: keras.Variable) -> "Plan":
        """The plan that a variable of six numbers holds."""
        values = keras.ops.convert_to_numpy(variable)
        return cls(*(int(value) for value in values))

    def write(self, variable: keras.Variable) -> None:
        """Keeps the plan in a variable of six numbers."""
        variable.assign(dataclasses.astuple(self))

    def goes_on(self, other: "Plan", epoch: int) -> bool:
        """Whether an epoch continues this one, if the plan made of anew is `other`."""
        same = (self.end, self.target) == (other.end, other.target)
        # A backup in the midst of an epoch begins it again.
        return same and self.epoch <= epoch <= min(self.epoch + 1, self.end)
