"""How good a file is, by the metrics that its model is compiled with."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from scl_keras.export.names import file_names
from scl_keras.export.samples import leaf_names, read_samples
from scl_keras.export.verification import open_interpreter


def evaluate_file(
    path: str | os.PathLike[str],
    model: keras.Model,
    batches: Iterable[tuple[Any, Any, Any]],
) -> dict[str, float] | None:
    """Gives of a file what `model.evaluate` gives of its model.

    Args:
        path: A TFLite file that `export_tflite` wrote.
        model: The compiled model that it was written of.
        batches: Inputs, targets, and sample weights or None, as NumPy arrays.

    Returns:
        Loss and metrics by name; None for a model with a `test_step` of its own, which
        alone knows how it is measured.
    """
    if type(model).test_step is not keras.Model.test_step:
        return None
    run = open_interpreter(pathlib.Path(path).read_bytes()).get_signature_runner()
    model.reset_metrics()
    structure, losses, sizes, found = None, [], [], {}
    for x, y, sample_weight in batches:
        structure = structure or _Structure(model.predict_on_batch(x))
        answers = structure.nest(run(**_inputs(run, model, x)))
        loss = model.compute_loss(x, y, answers, sample_weight, training=False)
        found = model.compute_metrics(x, y, answers, sample_weight)
        losses.append(float(keras.ops.convert_to_numpy(loss)))
        sizes.append(len(keras.tree.flatten(x)[0]))
    metrics = {name: float(value) for name, value in found.items()}
    model.reset_metrics()
    return {**metrics, "loss": float(np.average(losses, weights=sizes))}


def _inputs(run: Any, model: keras.Model, x: Any) -> dict[str, np.ndarray]:
    inputs, details = read_samples(model, x), run.get_input_details()
    return {
        spec.name: array.astype(details[spec.name]["dtype"])
        for spec, array in zip(inputs.signature, inputs.arrays, strict=True)
    }


class _Structure:
    """How a model nests its outputs, which have names in a file.

    Args:
        answers: What it gives.
    """

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._names = file_names(leaf_names(answers, "output"), "output")

    def nest(self, found: Mapping[str, np.ndarray]) -> Any:
        """What a file gives, as tensors."""
        flat = [keras.ops.convert_to_tensor(found[name]) for name in self._names]
        return keras.tree.pack_sequence_as(self._answers, flat)
