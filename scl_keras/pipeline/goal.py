"""What the user wants: one number, in units of their own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scl_keras import backend
from scl_keras.callbacks import (
    TargetAccuracy,
    TargetBytes,
    TargetSparsity,
    TargetSpeed,
)


@dataclasses.dataclass(frozen=True)
class Goal:
    """One of the things that can be asked for.

    Attributes:
        kind: `"max_drop"`, `"max_bytes"`, `"speedup"`, `"sparsity"` or `"compression"`.
        value: The number.
    """

    kind: str
    value: Any

    @classmethod
    def of(cls, **given: float | None) -> "Goal":
        """The one that is given.

        Raises:
            ValueError: If none is, or more than one.
            RuntimeError: If it is one of files, which this backend can't make.
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
        goal.callback("val_loss", "auto", 0.0, "int8", None)  # refuses a wrong value
        if goal.is_of_file:
            backend.check_can_export()
        return goal

    @property
    def is_of_file(self) -> bool:
        """Whether it is about the file."""
        return self.kind in ("max_bytes", "speedup")

    @property
    def cost(self) -> str:
        """What the model pays for, see `SCLModel.compile`."""
        return "macs" if self.kind == "speedup" else "connections"

    def defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What is usual for it, of the arguments that weren't given."""
        # Integers may compute faster than was asked for, at a price in accuracy.
        fast = {"dtype": "float32", "optimize_for": "latency"}
        small = {"dtype": "int8", "optimize_for": "size"}
        usual = fast if self.kind == "speedup" else small
        return {name: usual[name] for name in usual if given[name] is None}

    def callback(
        self, monitor: str, mode: str, baseline: float, dtype: str, samples: Any
    ) -> Any:
        """The callback that reaches it.

        Args:
            monitor: The metric, by its name in the logs.
            mode: See `TargetAccuracy`.
            baseline: That of the dense model.
            dtype: The coarsest precision of the file.
            samples: Inputs, as `export_tflite` takes them.
        """
        if self.kind == "max_drop":
            return TargetAccuracy(self.value, monitor, mode, baseline)
        if self.kind == "max_bytes":
            return TargetBytes(self.value, dtype, samples=samples)
        if self.kind == "speedup":
            return TargetSpeed(self.value, samples=samples)
        if self.kind == "sparsity":
            return TargetSparsity(self.value)
        return TargetSparsity(compression=self.value)

    def is_met_by(self, export: Any) -> bool:
        """Whether a written file is as asked for, an `ExportReport`.

        Timing is off by some percent: a file that isn't shown to be slower is as fast.
        """
        if self.kind == "max_bytes":
            return bool(export.bytes_written <= self.value)
        if self.kind == "speedup" and export.latency is not None:
            return bool(export.latency.speed.high >= self.value)
        return True
