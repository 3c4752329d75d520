"""A TFLite file of anybody, verified against a Keras model."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping

import keras
import numpy as np
from numpy.typing import ArrayLike

from scl_keras import backend, checks
from scl_keras.export.accuracy import Labels, read_labels
from scl_keras.export.file_contents import precision_of, read_file
from scl_keras.export.file_verification import (
    SHUFFLED,
    FileVerification,
    RunDifference,
)
from scl_keras.export.first_run import check_survives
from scl_keras.export.float32 import InFloat32
from scl_keras.export.foreign_file import ForeignFile, read_foreign
from scl_keras.export.reference import Batch, Reference, build_reference
from scl_keras.export.samples import Samples
from scl_keras.export.verification import (
    SETTINGS,
    Setting,
    batches_for,
    compare,
)
from scl_keras.export.weights import wrong_encodings

_Pairs = list[tuple[Batch, Mapping[str, np.ndarray]]]


def verify_tflite(
    file: str | os.PathLike[str] | bytes,
    model: keras.Model,
    samples: Samples,
    *,
    labels: ArrayLike | None = None,
    tolerance: float | None = None,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> FileVerification:
    """Compares a TFLite file, made by whatever means, with a Keras model.

    The file is run as `export_tflite` runs its own: with and without the default
    delegate (XNNPACK), with 1, 2 and 4 threads, one sample at a time and several at
    once, and on samples whose values are shuffled. Its answers are compared with those
    of Keras. It may have integers for inputs and outputs, other names, or a fixed
    number of samples, which they are then given in.

    What a run doesn't show stays unseen: `export_tflite` compares the weights of its
    files as well, bit by bit.

    A file that is damaged may end the process that runs it. So it is read first, and
    then run on zeros in a process of its own. One whose sparse weights contradict
    themselves, as the converter writes some, is wrong, and not run at all.

    Args:
        file: Path of a TFLite file, or its bytes.
        model: A built Keras model.
        samples: Real inputs, as for `export_tflite`.
        labels: Class indices of the samples, for the accuracy of both; the model must
            have one output.
        tolerance: Largest difference to Keras that counts as the same, as a share of
            the output's largest absolute value on the samples. The default depends on
            how the file rounds: 1e-4 for float32, 1e-2 for float16, 0.1 for integers
            that are stored and 0.15 for those that are computed with.
        inputs: Names of the model's inputs by those of the file, where names, shapes
            and numbers don't tell.
        outputs: Names of the model's outputs by those of the file, likewise. A model
            calls them `output_0`, `output_1` and so on, as their keys where it gives a
            dict, or as the layers that they come from.

    Returns:
        What was found; `print` it. A file that is wrong raises nothing: look at
        `correct`.

    Raises:
        ValueError: If an argument doesn't fit, the file is damaged, or it takes or
            gives something else than the model.
        OSError: If it can't be opened.
        ExportError: If the model computes in another float type than float32, and in
            float32 something else.
        RuntimeError: If Keras runs on another backend than TensorFlow.

    Example:

    ```python
    export_tflite(dense_model, "model.tflite", samples=x, latency_seconds=0)
    found = verify_tflite("model.tflite", dense_model, x)
    found.correct  # True
    print(found)
    ```
    """
    backend.check_can_export()
    path = None if isinstance(file, bytes) else str(checks.path("file", file))
    content = file if isinstance(file, bytes) else pathlib.Path(file).read_bytes()
    if tolerance is not None:
        wanted = "a positive and finite number, or None"
        checks.number("tolerance", tolerance, wanted, lambda x: x > 0)
    flat = read_file(content)
    precision = precision_of(flat)
    allowed = tolerance or precision.tolerance
    with (in_float32 := InFloat32(model)):
        reference = build_reference(in_float32.model, samples)
    reference = in_float32.compared(reference, tolerance)
    checked = None if labels is None else read_labels(labels, reference, 1.0)
    found = FileVerification(
        path=path,
        bytes=len(content),
        precision=precision.name or "float32",
        tolerance=allowed,
        problems=tuple(f"It is encoded wrong: {p}." for p in wrong_encodings(flat)),
        accuracy=None if checked is None else checked.accuracy,
        notes=reference.notes,
    )
    if not found.correct:  # nor run: the runtime would read outside of its memory
        return found
    check_survives(content)
    foreign = read_foreign(content, reference, inputs, outputs)
    found = dataclasses.replace(
        found,
        inputs={port.name: name for name, port in foreign.inputs.items()},
        outputs={port.name: name for name, port in foreign.outputs.items()},
    )
    return _in_all_settings(found, foreign, reference, precision.shuffled, checked)


def _in_all_settings(
    found: FileVerification,
    foreign: ForeignFile,
    reference: Reference,
    shuffled: bool,
    labels: Labels | None,
) -> FileVerification:
    """Returns what is known of a file, and what runs of it show."""
    differences: list[RunDifference] = []
    problems: list[str] = []
    accuracy = None
    for setting in SETTINGS:
        pairs, failures = _run(foreign, reference, setting, shuffled)
        compared = list(_compared(foreign, reference, setting, pairs, found.tolerance))
        rows = [row for row, _ in compared if row is not None]
        differences += rows
        problems += failures + [problem for _, problem in compared if problem]
        is_whole = not setting.brief and not failures and len(rows) == len(compared)
        if labels is not None and accuracy is None and is_whole:
            batches, answers = zip(*pairs, strict=True)
            accuracy = float(labels.right(batches, answers).mean())
    return dataclasses.replace(
        found,
        differences=tuple(differences),
        problems=tuple(problems),
        file_accuracy=accuracy,
    )


def _run(
    foreign: ForeignFile, reference: Reference, setting: Setting, shuffled: bool
) -> tuple[_Pairs, list[str]]:
    """Returns the batches with the file's answers, and what failed."""
    pairs: _Pairs = []
    failures: list[str] = []
    run = None
    for i in batches_for(reference, setting, shuffled):
        batch = reference.batches[i]
        try:
            run = run or foreign.open(setting)
            pairs.append((batch, run(batch.inputs)))
        except Exception as error:  # RuntimeError, ValueError or TypeError
            reason = " ".join(str(error).split())
            what = _samples(foreign, batch)
            failures.append(f"It does not run with {setting} on {what}: {reason}")
            run = None  # of which nothing more can be expected
    return pairs, list(dict.fromkeys(failures))


def _samples(foreign: ForeignFile, batch: Batch) -> str:
    if batch.shuffled:
        return SHUFFLED
    if foreign.batch_size is not None:
        return f"batches of {foreign.batch_size}"
    return "one sample" if batch.size == 1 else "several samples"


def _compared(
    foreign: ForeignFile,
    reference: Reference,
    setting: Setting,
    pairs: _Pairs,
    tolerance: float,
) -> Iterator[tuple[RunDifference | None, str | None]]:
    """Yields each difference, and a sentence on it if it is too large."""
    groups: dict[str, _Pairs] = {}
    for batch, answer in pairs:
        groups.setdefault(_samples(foreign, batch), []).append((batch, answer))
    for samples, group in groups.items():
        where = f"on {samples} with {setting}"
        for name in reference.batches[0].outputs:
            shapes = _other_shapes(name, group)
            if shapes is not None:
                yield None, f"It gives {name!r} in another shape {where}: {shapes}."
                continue
            scale = reference.scale(name, samples == SHUFFLED)
            found = compare(name, setting.delegate, scale, group)
            sizes = {foreign.batch_size or batch.size for batch, _ in group}
            row = RunDifference(
                **vars(found),
                threads=setting.threads,
                samples=samples,
                resized=any(map(foreign.is_resized, sizes)),
            )
            wrong = not found.relative <= tolerance  # NaN is wrong as well
            yield (
                row,
                f"It computes something else {where}: {found}." if wrong else None,
            )


def _other_shapes(name: str, group: _Pairs) -> str | None:
    for batch, answer in group:
        expected, found = batch.outputs[name].shape, answer[name].shape
        if expected != found:
            return f"{found}, where Keras gives {expected}"
    return None
