"""What came of a command, and what it tells the process that started it."""

import dataclasses
import enum
from typing import Any


class Code(enum.IntEnum):
    """How the process ends."""

    DONE = 0
    NOT_TRUE = 1
    BAD_INPUT = 2
    FAILED = 3
    INTERRUPTED = 130  # as shells have it


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        data: What `--json` prints.
        text: What is printed without it; None if that was printed already.
        is_true: Whether what was asked for is so.
    """

    data: dict[str, Any]
    text: str | None
    is_true: bool = True
