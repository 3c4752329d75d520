"""Accuracy on labelled samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from scl_keras.export.reference import Reference


def check_labels(labels: Any, reference: Reference) -> np.ndarray:
    """Checks that labels fit the model's output.

    Args:
        labels: Integers, one a sample (a position, for a map).
        reference: What the model computes.

    Returns:
        The labels as an array.

    Raises:
        ValueError: If they don't fit, or the model has several outputs.
    """
    checked = np.asarray(labels)
    outputs = reference.batches[0].outputs
    if len(outputs) != 1:
        raise ValueError(
            "`labels` need a model with one output. Received: a model with "
            f"{sorted(outputs)}"
        )
    [output] = outputs.values()
    shape = (reference.samples, *output.shape[1:-1])
    classes = output.shape[-1] if output.ndim > 1 else 1
    if checked.dtype.kind not in "iu" or checked.shape != shape or classes < 2:
        raise ValueError(
            f"`labels` must be integers of shape {shape}, indices on the last axis of "
            f"an output of two or more classes. Received: labels of dtype "
            f"{checked.dtype} and shape {checked.shape}, an output of {classes} classes"
        )
    return checked


def accuracy(
    labels: np.ndarray, reference: Reference, answers: Iterable[Mapping[str, Any]]
) -> float:
    """Share of labels that are the index of the largest entry on the last axis.

    Args:
        labels: What `check_labels` returned.
        reference: The batches that were answered.
        answers: Outputs by name, one mapping a batch.

    Returns:
        A number between 0 and 1.
    """
    right = []
    for batch, answer in zip(reference.batches, answers, strict=True):
        if batch.first is not None:
            [output] = answer.values()
            part = labels[batch.first : batch.first + batch.size]
            found = np.asarray(output).argmax(axis=-1)[: len(part)]
            right.append((found == part).ravel())
    return float(np.concatenate(right).mean())
