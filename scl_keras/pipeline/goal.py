"""What the user wants: one number, in units of their own."""

import dataclasses
from typing import Any

from scl_keras.callbacks import TargetAccuracy, TargetSparsity


@dataclasses.dataclass(frozen=True)
class Goal:
    """One of the things that can be asked for.

    Attributes:
        kind: `"max_drop"`, `"sparsity"` or `"compression"`.
        value: The number.
    """

    kind: str
    value: float

    @classmethod
    def of(cls, **given: float | None) -> "Goal":
        """The one that is given.

        Raises:
            ValueError: If none is, or more than one.
        """
        found = {name: value for name, value in given.items() if value is not None}
        if len(found) != 1:
            received = ", ".join(f"{k}={v!r}" for k, v in found.items()) or "none"
            raise ValueError(
                f"Say one thing that is wanted: {', '.join(given)}. "
                f"Received: {received}"
            )
        ((kind, value),) = found.items()
        goal = cls(kind, value)
        goal.callback("val_loss", "auto", 0.0)  # which refuses a wrong value early
        return goal

    def callback(self, monitor: str, mode: str, baseline: float) -> Any:
        """The callback that reaches it.

        Args:
            monitor: The metric, by its name in the logs.
            mode: See `TargetAccuracy`.
            baseline: That of the dense model.
        """
        if self.kind == "max_drop":
            return TargetAccuracy(self.value, monitor, mode, baseline)
        if self.kind == "sparsity":
            return TargetSparsity(self.value)
        return TargetSparsity(compression=self.value)
