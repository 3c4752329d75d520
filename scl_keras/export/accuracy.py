"""How many labels files get right, and how many of Keras's they lose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scl_keras import checks
from scl_keras.export.reference import Batch, Reference

DEFAULT_MAX_DROP = 0.005

_TWO_SIGMA = 2.0  # beyond so many standard errors a difference is hardly chance


@dataclasses.dataclass(frozen=True)
class AccuracyDrop:
    """How much accuracy a file loses against Keras, on the same samples.

    Only labels that one of both gets right and the other one doesn't count. So the
    standard error is that of the difference sample by sample, which is much smaller
    than that of an accuracy: what is hard for both adds no noise.

    Attributes:
        share: The accuracy of Keras less that of the file.
        error: The standard error of `share`.
        lost: Number of labels that Keras gets right and the file doesn't.
        gained: Number of labels that the file gets right and Keras doesn't.
        labels: Number of all labels.
        allowed: The largest share that a file may lose.
    """

    share: float
    error: float
    lost: int
    gained: int
    labels: int
    allowed: float

    @property
    def is_too_large(self) -> bool:
        """Whether the file loses more than allowed, as measured.

        Few samples make a good file look bad as often as a bad one good. The first
        costs bytes, the second accuracy that nobody sees, so that what was measured
        counts, however few they are.
        """
        return self.share > self.allowed + 1e-9

    @property
    def may_be_chance(self) -> bool:
        """Whether a file that loses no more than allowed could have this drop, too."""
        return self.share - self.allowed < _TWO_SIGMA * self.error

    def __str__(self) -> str:
        return (
            f"loses {self.share:.2%} ± {self.error:.2%} of accuracy ({self.lost:,} of "
            f"{self.labels:,} labels lost, {self.gained:,} won), more than "
            f"max_accuracy_drop={self.allowed:.2%}"
        )


@dataclasses.dataclass(frozen=True)
class Labels:
    """Class indices of the samples, and which of them Keras gets right.

    Attributes:
        values: Integers of shape `(samples, ...)`.
        keras_right: Which of them Keras gets right, as `right` tells it.
        max_drop: The largest share that a file may lose.
    """

    values: np.ndarray
    keras_right: np.ndarray
    max_drop: float

    @property
    def accuracy(self) -> float:
        """The share that Keras gets right."""
        return float(self.keras_right.mean())

    def right(
        self, batches: Sequence[Batch], answers: Sequence[Mapping[str, Any]]
    ) -> np.ndarray:
        """Returns which labels are the index of the largest entry on the last axis.

        Args:
            batches: Those that were answered.
            answers: Outputs by name, one mapping for each batch.

        Returns:
            Booleans, one for each label of a sample that is in the batches.
        """
        return _right(self.values, batches, answers)

    def drop(self, right: np.ndarray) -> AccuracyDrop:
        """Returns what a file loses that gets the labels right that `right` tells."""
        lost, gained = self.keras_right & ~right, right & ~self.keras_right
        difference = lost.astype(float) - gained
        # Positions of one sample go wrong together: noise is counted by sample.
        by_sample = difference.reshape(len(right), -1).mean(axis=1)
        return AccuracyDrop(
            share=float(by_sample.mean()),
            error=float(by_sample.std() / math.sqrt(len(by_sample))),
            lost=int(lost.sum()),
            gained=int(gained.sum()),
            labels=right.size,
            allowed=self.max_drop,
        )


def check_max_drop(max_drop: float | None, has_labels: bool) -> float:
    """Returns the largest share of accuracy that a file may lose.

    Args:
        max_drop: What the caller asked for, or None.
        has_labels: Whether there are labels.

    Raises:
        ValueError: If it is no number from 0 to 1, or there are no labels.
    """
    if max_drop is None:
        return DEFAULT_MAX_DROP
    wanted = "a number from 0 to 1, such as 0.005 for half a percent"
    checked = checks.number(
        "max_accuracy_drop", max_drop, wanted, lambda x: 0 <= x <= 1
    )
    if not has_labels:
        raise ValueError(
            "`max_accuracy_drop` needs `labels` to measure accuracy by. Received: "
            f"max_accuracy_drop={max_drop!r}, labels=None"
        )
    return checked


def read_labels(labels: ArrayLike, reference: Reference, max_drop: float) -> Labels:
    """Checks that labels fit the model's output.

    Args:
        labels: Integers, one for each sample (for each position, for a map).
        reference: What the model computes.
        max_drop: The largest share that a file may lose.

    Returns:
        The labels.

    Raises:
        ValueError: If they don't fit, or the model has several outputs.
    """
    outputs = reference.batches[0].outputs
    if len(outputs) != 1:
        raise ValueError(
            "`labels` need a model with one output. Received: a model with "
            f"{sorted(outputs)}"
        )
    [output] = outputs.values()
    classes = output.shape[-1] if output.ndim > 1 else 1
    if classes < 2:
        raise ValueError(
            "`labels` are indices on the last axis of the model's output, which must "
            f"have two or more classes. Received: an output of shape {output.shape}, "
            "batch axis first"
        )
    values = _as_array(labels)
    _check_form(values, (reference.samples, *output.shape[1:-1]), classes)
    if values.min() < 0 or values.max() >= classes:
        raise ValueError(
            f"`labels` must be from 0 to {classes - 1}, for the model's output has "
            f"{classes} classes. Received: labels from {values.min()} to {values.max()}"
        )
    answers = [batch.outputs for batch in reference.batches]
    return Labels(values, _right(values, reference.batches, answers), max_drop)


def _as_array(labels: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(labels)
    except Exception as error:  # rows of different lengths, or a symbolic tensor
        raise ValueError(
            "`labels` must be an array of integers. Received: labels of type "
            f"{type(labels).__name__}, of which NumPy makes no array: {error}"
        ) from error


def _check_form(values: np.ndarray, shape: tuple[int, ...], classes: int) -> None:
    hint = ""
    if values.shape == (*shape, classes):
        hint = " One-hot labels become indices by `labels.argmax(-1)`."
    elif values.shape == (*shape, 1):
        hint = " `labels[..., 0]` leaves out the last axis."
    elif values.shape == shape and values.dtype.kind in "fb":
        hint = " `labels.astype(int)` makes whole numbers integers."
    if hint or values.shape != shape or values.dtype.kind not in "iu":
        one = "position of each sample" if len(shape) > 1 else "sample"
        raise ValueError(
            f"`labels` must be integers of shape {shape}, one class index for each "
            f"{one}.{hint} Received: labels of dtype {values.dtype} and shape "
            f"{values.shape}"
        )


def _right(
    values: np.ndarray,
    batches: Sequence[Batch],
    answers: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    right = []
    for batch, answer in zip(batches, answers, strict=True):
        if batch.first is not None:
            [output] = answer.values()
            part = values[batch.first : batch.first + batch.size]
            right.append(np.asarray(output).argmax(axis=-1)[: len(part)] == part)
    return np.concatenate(right)
