"""What a model is measured against: a metric of the dense model."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import keras

from scl_keras.batches import split

MODES = ("auto", "max", "min")


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A metric and its value before anything was cut.

    Attributes:
        monitor: Name of the metric in the logs.
        value: Its value.
        sign: 1 if it is to be large, -1 if it is to be small.
        samples: Number of samples that it is measured on, or None if that isn't known.
    """

    monitor: str
    value: float
    sign: int
    samples: int | None = None

    def drop(self, logs: Mapping[str, Any]) -> float:
        """How much worse than this the metric in the logs is; NaN as it is."""
        return self.sign * (self.value - _metric(logs, self.monitor))

    def standard_error(self, drop: float) -> float:
        """That of a drop of an accuracy, at the least: `sqrt(d / n)`; else 0.

        Where `n` samples tell the accuracies of both networks, the drop is the number
        of those that only the first one gets right, less those that only the second
        does, over `n`: a sum of at least `n · d` of them.
        """
        if not (is_accuracy(self.monitor) and self.samples):
            return 0.0
        return math.sqrt(drop / self.samples)


def is_accuracy(monitor: str) -> bool:
    """Whether a metric is, by its name, a share of the samples."""
    return monitor.endswith(("accuracy", "acc"))


def sign_of(monitor: str, mode: str, model: keras.Model) -> int:
    """1 if a metric is to be large, -1 if it is to be small.

    Args:
        monitor: Name of the metric in the logs of `fit`.
        mode: One of `MODES`. With `"auto"` Keras's own metrics tell it, and losses and
            accuracies are known by their names.
        model: The compiled model, after a batch was trained or evaluated.

    Raises:
        ValueError: If that tells nothing of the metric.
    """
    if mode != "auto":
        return 1 if mode == "max" else -1
    name = monitor.removeprefix("val_")
    if name.endswith("loss"):
        return -1
    outputs = getattr(model, "output_names", None) or []
    alone = [name.removeprefix(f"{output}_") for output in outputs]
    for known in (name, *alone):  # of several outputs, logs say which one it is of
        if (sign := _as_keras_has_it(known, model)) is not None:
            return sign
    if is_accuracy(monitor):
        return 1
    raise ValueError(
        f"Whether {name!r} is to be large or small can't be told. Say it: "
        f'`mode="max"` or `mode="min"`. Received: monitor={monitor!r}, mode="auto"'
    )


def _as_keras_has_it(name, model):
    """What `EarlyStopping` finds out of a metric; None if it can't."""
    asked = keras.callbacks.EarlyStopping(name)
    asked.set_model(model)
    asked.on_train_begin()
    try:
        asked.on_epoch_end(0, {name: 0.0})
    except ValueError:
        return None
    finally:
        asked.on_train_end()
    return 1 if asked.monitor_op(1.0, 0.0) else -1


def measure(model: keras.Model, monitor: str, arguments: Mapping[str, Any]) -> float:
    """The metric of a model on what `fit` will validate on.

    Args:
        model: The compiled model.
        monitor: Name of the metric in the logs of `fit`.
        arguments: Those of `fit`.

    Raises:
        ValueError: If there are no such data, or the model has no such metric.
    """
    data = arguments.get("validation_data")
    if data is None or not monitor.startswith("val_"):
        raise ValueError(
            "`TargetAccuracy` measures the dense model on `validation_data`, and `fit` "
            "was given none (of `validation_split` only Keras knows which they are). "
            "Give them, or the metric of the dense model as `baseline=`. "
            f"Received: monitor={monitor!r}"
        )
    options = {
        "batch_size": arguments.get("validation_batch_size")
        or arguments.get("batch_size"),
        "steps": arguments.get("validation_steps"),
    }
    if isinstance(data, (tuple, list)):
        data = dict(zip(("x", "y", "sample_weight"), data, strict=False))
    else:
        data, options["batch_size"] = {"x": data}, None
    found = model.evaluate(**data, **options, verbose=0, return_dict=True)
    return _metric({f"val_{name}": value for name, value in found.items()}, monitor)


def _metric(logs, monitor):
    if monitor not in logs:
        raise ValueError(
            f"`TargetAccuracy` monitors {monitor!r}, which is not among the logs. "
            "Compile the metric, and give `fit` data to validate on. "
            f"Received: logs of {', '.join(sorted(logs))}"
        )
    return float(logs[monitor])


def samples_of(arguments: Mapping[str, Any]) -> int | None:
    """How many samples `fit` validates on, or None if that can't be counted."""
    data, steps = arguments.get("validation_data"), arguments.get("validation_steps")
    if data is None:
        return None
    if isinstance(data, (tuple, list)):
        return len(keras.tree.flatten(data[0])[0])
    if hasattr(data, "__next__"):  # what is read here would be gone
        return None
    batches = itertools.islice(split(data), steps)
    return sum(len(keras.tree.flatten(batch)[0]) for batch in batches)
