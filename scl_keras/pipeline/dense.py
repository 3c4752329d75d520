"""The dense model as it comes: whether it can be compressed, and how good it is."""

import hashlib
from collections.abc import Mapping

import keras
import numpy as np

from scl_keras import checks
from scl_keras.callbacks.baseline import is_accuracy
from scl_keras.masks.mask import find_masks
from scl_keras.pipeline.data import Data

# What random weights may reach. Of 60 networks of each of four kinds, untrained, the
# best got 0.26 of the digits right, ten classes, and 97 % of them up to 0.19; of two
# classes as frequent, 97 % of each kind got up to 0.53 to 0.68 right.
_TIMES, _SHARE = 3, 0.2  # the share most frequent, and of what is above it


def check_is_dense(model: keras.Model) -> None:
    """Refuses what isn't a compiled model without masks."""
    checks.built_model("compress", model)
    if not getattr(model, "compiled", False) or model.loss is None:
        raise ValueError(
            f"Model '{model.name}' has no loss to be trained with. Compile it as it "
            "was trained: `model.compile(optimizer, loss, metrics=[...])`. Received: "
            f"{model!r}"
        )
    if find_masks(model):
        raise ValueError(
            f"Model '{model.name}' has masks already, and `compress` makes its own. "
            "Take them out (`strip_masks`), or go on with `fit` and `TargetAccuracy`. "
            f"Received: {model!r}"
        )


def check_takes(model: keras.Model, data: Data) -> None:
    """Refuses data whose first batch doesn't fit the model.

    Raises:
        ValueError: If it doesn't.
    """
    measured(model, data, steps=1)


def measured(
    model: keras.Model, data: Data, steps: int | None = None
) -> dict[str, float]:
    """Loss and metrics of a model.

    Args:
        model: The compiled model.
        data: What to measure on.
        steps: Number of batches, by default all.

    Raises:
        ValueError: If it doesn't take the data.
    """
    options = {"steps": steps, "verbose": 0, "return_dict": True}
    try:
        found = model.evaluate(**data.arguments(), **options)
    except Exception as error:  # whatever layers and backends raise
        raise ValueError(
            f"Model '{model.name}' can't be evaluated on `{data.name}`. Received: "
            f"{type(error).__name__}: {error}"
        ) from error
    return {name: float(value) for name, value in found.items()}


def first_metric(metrics: Mapping[str, float]) -> str:
    """The first metric that is no loss, or the loss."""
    names = [n for n in metrics if n != "loss" and not n.endswith("_loss")]
    return names[0] if names else "loss"


def labels_of(data: Data) -> np.ndarray | None:
    """Class indices of the data, `(samples,)`; None if they are something else."""
    found = []
    for _, y, _ in data.batches():
        if not isinstance(y, np.ndarray):
            return None
        if y.ndim == 2 and y.shape[1] > 1:
            if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
                return None
            y = y.argmax(axis=1)
        elif y.size != len(y):
            return None
        found.append(y.reshape(-1))
    labels = np.concatenate(found)
    is_whole = np.issubdtype(labels.dtype, np.integer) or np.all(labels % 1 == 0)
    return labels.astype("int64") if is_whole and labels.min() >= 0 else None


def check_is_trained(
    model: keras.Model,
    monitor: str,
    metrics: Mapping[str, float],
    labels: np.ndarray | None,
) -> None:
    """Refuses a metric that isn't there, and a model that was never trained.

    That is one no better than a constant answer; or, where its optimizer has made no
    step, which is also so of a trained one that was compiled anew, one that isn't
    clearly better.
    """
    name = monitor.removeprefix("val_")
    if name not in metrics:
        raise ValueError(
            f"Model '{model.name}' isn't compiled with the metric to monitor. It has "
            f"{', '.join(f'val_{n}' for n in metrics)}. Received: monitor={monitor!r}"
        )
    if not np.isfinite(metrics[name]):
        raise ValueError(
            f"Of model '{model.name}', {name} is {metrics[name]} on the validation "
            "data: there is nothing to keep. Look at the model and the data."
        )
    if labels is None or not is_accuracy(name):
        return
    constant = np.bincount(labels).max() / len(labels)
    if metrics[name] <= constant:
        raise ValueError(
            f"Model '{model.name}' doesn't look trained: its {name} is "
            f"{metrics[name]:.4g}, and always to answer with the most frequent class "
            f"gives {constant:.4g}. Train it first, or load its weights."
        )
    least = min(_TIMES * constant, constant + _SHARE * (1 - constant))
    if metrics[name] <= least and not _steps_of(model.optimizer):
        raise ValueError(
            f"Model '{model.name}' doesn't look trained: its optimizer has made no "
            f"step, and its {name} is {metrics[name]:.4g}, which random weights may "
            f"reach (up to {least:.4g}). Train it first, or load its weights; if it "
            "was trained and compiled anew, train it for an epoch more."
        )


def _steps_of(optimizer):
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of loss scaling
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def digest(model: keras.Model) -> str:
    """What tells a model's weights from others: a SHA-256."""
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()
