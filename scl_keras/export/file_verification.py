"""What a run of a file of anybody has shown: as data and as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from scl_keras.export.verification import Difference
from scl_keras.rendering import as_plain_text

SHUFFLED = "shuffled inputs"

_SHOWN = 6  # of the problems, as text


@dataclasses.dataclass(frozen=True)
class RunDifference(Difference):
    """How far one output of a file is from Keras, in one way to run it.

    Attributes:
        threads: How many threads the runtime had.
        samples: What was run: `"one sample"`, `"several samples"`, `"shuffled inputs"`
            (samples whose values are shuffled), or `"batches of 4"`, for a file or a
            model that takes no other number.
        resized: Whether the file had to be resized for them.

    Example:

    ```python
    report = export_tflite(model, "model.tflite", samples=x, latency_seconds=0)
    found = verify_tflite("model.tflite", model, x).differences[0]
    found.delegate, found.threads, found.samples
    ```
    """

    threads: int
    samples: str
    resized: bool


@dataclasses.dataclass(frozen=True)
class FileVerification:
    """What `verify_tflite` found. `print` it.

    Attributes:
        path: Where the file is; None for bytes.
        bytes: Its size.
        precision: `"float32"`, or what it rounds: `"float16"`, `"int8 weights"` (stored
            as integers), `"int8 dynamic"` (activations rounded at each call), `"int8"`
            (computed with integers).
        tolerance: The largest relative difference that is allowed.
        inputs: Names of the model's inputs by those of the file.
        outputs: Likewise.
        differences: How far each output is from Keras, in each way to run the file;
            none if it wasn't run.
        problems: Sentences on what is wrong with it; none if nothing is.
        accuracy: Share of the labels that the Keras model gets right, or None.
        file_accuracy: Share that the file gets right, or None.
        notes: Sentences on what was compared.

    Example:

    ```python
    report = export_tflite(model, "model.tflite", samples=x, latency_seconds=0)
    verify_tflite("model.tflite", model, x).correct  # True
    ```
    """

    path: str | None
    bytes: int
    precision: str
    tolerance: float
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    differences: tuple[RunDifference, ...] = ()
    problems: tuple[str, ...] = ()
    accuracy: float | None = None
    file_accuracy: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether it computes what the model computes, however it is run."""
        return not self.problems

    @property
    def largest_difference(self) -> float:
        """The largest absolute difference; NaN where nothing could be compared."""
        return _largest(d.largest for d in self.differences)

    @property
    def relative_difference(self) -> float:
        """The largest difference as a share of the output's largest value."""
        return _largest(d.relative for d in self.differences)

    @property
    def agreement(self) -> dict[str, float]:
        """By output: the least share of samples whose largest entry is the same.

        Outputs with a single entry are left out, and so are shuffled inputs.
        """
        found: dict[str, float] = {}
        for d in self.differences:
            if d.agreement is not None and d.samples != SHUFFLED:
                found[d.output] = min(d.agreement, found.get(d.output, 1.0))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as plain types."""
        return {
            "correct": self.correct,
            "largest_difference": self.largest_difference,
            "relative_difference": self.relative_difference,
            "agreement": self.agreement,
            **dataclasses.asdict(self),
            "differences": [
                {**dataclasses.asdict(d), "relative": d.relative}
                for d in self.differences
            ],
            "problems": list(self.problems),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        what = f"{self.bytes:,} bytes, {self.precision}"
        lines = [f"{self.path or 'The file'} ({what})"]
        if self.differences:
            lines += [self._table(), *self._names()]
        if self.accuracy is not None and self.file_accuracy is not None:
            lines.append(
                f"accuracy {self.file_accuracy:.2%}, Keras {self.accuracy:.2%}"
            )
        lines += [*self.notes, *self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"... and {len(self.problems) - _SHOWN} more such problems")
        return "\n".join([*lines, self._verdict()])

    def _table(self) -> str:
        table = Table(box=box.SQUARE, title="differences to Keras")
        for head in ("output", "run with", "threads", "samples"):
            table.add_column(head)
        for head in ("largest", "relative", "mean", "same class"):
            table.add_column(head, justify="right")
        alike: dict[tuple, list[RunDifference]] = {}
        for d in self.differences:
            key = d.output, d.delegate, d.samples, d.resized
            alike.setdefault(key, []).append(d)
        for found in alike.values():
            table.add_row(*_row(found))
        return as_plain_text(table)

    def _names(self) -> list[str]:
        """Who is who, where names differ."""
        pairs = {**self.inputs, **self.outputs}
        told = [f"{k} is {v}" for k, v in pairs.items() if k != v]
        return [f"By name in the file and in the model: {', '.join(told)}"] * bool(told)

    def _verdict(self) -> str:
        allowed = f"{self.tolerance:.2g} of the largest value is allowed"
        if self.correct:
            return f"It computes what the model computes: {allowed}."
        return f"It does not compute what the model computes: {allowed}."


def _row(alike: Sequence[RunDifference]) -> tuple[str, ...]:
    """One for all numbers of threads: the worst of them."""
    first = alike[0]
    agreements = [d.agreement for d in alike if d.agreement is not None]
    return (
        first.output,
        first.delegate,
        ", ".join(str(d.threads) for d in alike),
        f"{first.samples}{', resized' if first.resized else ''}",
        f"{_largest(d.largest for d in alike):.2e}",
        f"{_largest(d.relative for d in alike):.2e}",
        f"{_largest(d.mean for d in alike):.2e}",
        f"{min(agreements):.2%}" if agreements else "",
    )


def _largest(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.max(found)) if found else float("nan")  # NaN if there is one
