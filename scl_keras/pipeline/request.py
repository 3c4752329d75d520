"""What `compress` is asked for, checked and complete."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import keras

from scl_keras import checks
from scl_keras.callbacks.baseline import MODES
from scl_keras.export_choices import DTYPES, GOALS
from scl_keras.pipeline.goal import Goal

_FILE = "request.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `compress` that say what to do, see there."""

    goal: Goal
    epochs: int | None
    monitor: str | None
    mode: str
    distill: bool
    granularity: Any
    dtype: str
    optimize_for: str
    learning_rate: float | None
    batch_size: int
    out: pathlib.Path | None

    @classmethod
    def of(cls, goal: Goal, **given: Any) -> Request:
        """The request that some arguments make.

        Raises:
            ValueError: If one doesn't fit.
        """
        given = {**given, **goal.defaults(given)}
        checks.one_of("mode", given["mode"], MODES)
        checks.one_of("dtype", given["dtype"], DTYPES)
        checks.one_of("optimize_for", given["optimize_for"], GOALS)
        monitor, epochs = given["monitor"], given["epochs"]
        if monitor is not None and not isinstance(monitor, str):
            raise checks.refusal("monitor", monitor, "the name of a metric, or None")
        if epochs is not None:
            wanted = "a whole number >= 1, or None"
            given["epochs"] = checks.integer("epochs", epochs, wanted, least=1)
        if given["learning_rate"] is not None:
            given["learning_rate"] = checks.number(
                *("learning_rate", given["learning_rate"]),
                "a number > 0, or None",
                lambda x: x > 0,
            )
        batch_size, wanted = given["batch_size"], "a whole number >= 1"
        given["batch_size"] = checks.integer("batch_size", batch_size, wanted, least=1)
        if given["out"] is not None:
            given["out"] = pathlib.Path(checks.path("out", given["out"]))
            _check_can_be_made(given["out"])
        return cls(goal=goal, **given)

    @property
    def masks(self) -> dict[str, Any]:
        """What `sparsify` is called with."""
        if self.granularity is None and self.goal.kind == "speedup":
            return {"runtime": "compact"}
        return {"granularity": self.granularity}

    def begin(self, epochs: int, model_digest: str) -> list[keras.callbacks.Callback]:
        """Goes on with what was begun in the folder, if it is just that.

        Args:
            epochs: Of the training.
            model_digest: What tells the dense model from others.

        Returns:
            Callbacks, to be listed before the backup: one that writes down what is
            begun as soon as there is something to go on with; none without a folder.

        Raises:
            ValueError: If something else was begun there and not finished.
        """
        if self.out is None:
            return []
        asked = {
            **{name: _text(value) for name, value in vars(self).items()},
            "epochs": str(epochs),
            "model": model_digest,
            "out": "",  # it may have been moved
        }
        path = self.out / "training" / _FILE
        if path.exists() and any(path.parent.glob("epoch_*")):
            begun = json.loads(path.read_text())
            differing = [
                f"{name}: {value}, not {begun.get(name)}"
                for name, value in asked.items()
                if begun.get(name) != value
            ]
            if differing:
                raise ValueError(
                    f"{path.parent} holds a training that was begun for something "
                    "else and not finished. Ask for the same to go on with it, give "
                    "another `out`, or remove the folder. Received: "
                    + ", ".join(differing)
                )

        def write(epoch, logs):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(asked, indent=2))
            partial.replace(path)

        return [keras.callbacks.LambdaCallback(on_epoch_end=write)]

    def finish(self) -> None:
        """Removes what was written down, and the training's backups."""
        if self.out is not None:
            shutil.rmtree(self.out / "training")


def _check_can_be_made(out):
    """Refuses, before there is work, a folder that nothing can be written to."""
    found = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not found.is_dir():
        problem = f"{found} is a file"
    elif not os.access(found, os.W_OK | os.X_OK):
        problem = f"you may not write to {found}"
    else:
        return
    raise ValueError(
        "`out` must be a folder that is there or can be made: give another one. "
        f"Received: out={str(out)!r}, and {problem}"
    )


def _text(value):
    """What tells a value from others, also in another process."""
    return "a function" if callable(value) else str(value)
