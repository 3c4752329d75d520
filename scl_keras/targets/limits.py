"""What a file may cost at most: bytes, or time."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING

from scl_keras import checks

if TYPE_CHECKING:
    from scl_keras.export.meter import FileMeter

_MOST_BYTES = 2**53  # the float `Limit.cost` holds any number up to this
_BYTES = 3  # of a connection: a number, and where it is


@dataclasses.dataclass(frozen=True)
class Limit(abc.ABC):
    """A limit, in a unit that grows with the number of connections.

    Attributes:
        cost: The most that a file may cost.
    """

    cost: float

    @abc.abstractmethod
    def measure(self, meter: FileMeter) -> float:
        """What the file of a model costs now."""

    @abc.abstractmethod
    def guess(self, most: int) -> int:
        """About how many of `most` connections a file may have."""

    @abc.abstractmethod
    def say(self, cost: float) -> str:
        """A cost, in words that follow "is"."""

    def refusal(self, least: float) -> str | None:
        """Why the limit is out of reach, or None.

        Args:
            least: What the file costs with one connection a mask.
        """
        if least <= self.cost:
            return None
        return (
            f"The file can't be {self.say(self.cost)}: with one connection (or block, "
            f"or channel) for each mask it is {self.say(least)}. What is left then has "
            "no mask, or is what every file has."
        )


class MaxBytes(Limit):
    """A number of bytes."""

    @classmethod
    def of(cls, max_bytes: int) -> MaxBytes:
        """The limit that an argument names.

        Raises:
            ValueError: If it is no whole number, from 1.
        """
        wanted = "a whole number of bytes >= 1: 100_000 is a file of 100 kB"
        options = {"least": 1, "most": _MOST_BYTES}
        return cls(checks.integer("max_bytes", max_bytes, wanted, **options))

    def measure(self, meter: FileMeter) -> float:
        """The bytes of the smallest file."""
        return meter.bytes()

    def guess(self, most: int) -> int:
        """As many as fit, at some bytes each."""
        return int(self.cost) // _BYTES

    def say(self, cost: float) -> str:
        """As "of 12,000 bytes"."""
        return f"of {cost:,.0f} bytes"


class Speedup(Limit):
    """A share of the time that the dense model takes."""

    @classmethod
    def of(cls, speedup: float) -> Speedup:
        """The limit that an argument names.

        Raises:
            ValueError: If it is no number above 1.
        """
        wanted = "a number above 1: 3.0 is three times as fast as the dense model"
        return cls(1 / checks.number("speedup", speedup, wanted, lambda x: x > 1))

    def measure(self, meter: FileMeter) -> float:
        """The time of an inference, as a share of the dense model's."""
        return meter.time()

    def guess(self, most: int) -> int:
        """The same share of the connections."""
        return round(most * self.cost)

    def say(self, cost: float) -> str:
        """As "3 times as fast as the dense one"."""
        return f"{1 / cost:.3g} times as fast as the dense one"
