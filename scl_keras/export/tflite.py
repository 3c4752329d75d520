"""From a Keras model to a TFLite file that was run before it was written."""

from __future__ import annotations

import math
import os
import pathlib
import uuid
from typing import Any

import keras

from scl_keras import backend
from scl_keras.export.candidates import ExportError, Trial, choose, try_candidates
from scl_keras.export.convert import Source
from scl_keras.export.measure import gzip_bytes, measure_latency
from scl_keras.export.reference import Reference, build_reference
from scl_keras.export.report import Attempt, ExportReport, TensorEncoding
from scl_keras.export.tensors import VALUE_BYTES, Weights


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    samples: Any,
    tolerance: float = 1e-4,
    latency_seconds: float = 2.0,
) -> ExportReport:
    """Writes a model as the smallest TFLite file that computes the same.

    The converter's sparse encoding (`tf.lite.Optimize.EXPERIMENTAL_SPARSITY`) is
    silently wrong for some models and does not load for others. So several
    encodings are tried: the converter's ("sparse"), compressed rows of our own
    ("csr") and none ("dense"). Each file is decoded and its weights compared bit by
    bit, loaded, run with and without the default delegate (XNNPACK), and
    compared with Keras on `samples`, one at a time and several at once. The
    smallest correct file is put at `path` in one step; if there is none, or
    anything fails on the way, `path` is left as it was.

    Masked layers need no `strip_masks` first: the converter folds a kernel and its
    mask into one constant.

    Args:
        model: A built Keras model: functional, Sequential or subclassed.
        path: File to write, ending in ".tflite", in an existing folder. An
            existing file is replaced.
        samples: Real inputs with a leading batch axis: an array, or for several
            inputs a list in the model's order or a dict by name. Some tens are
            plenty; all of them are run.
        tolerance: Largest difference to Keras that counts as the same, as a
            share of the output's largest absolute value on the samples. The two
            sum in another order, which moves a sum of n float32 products by
            about sqrt(n) * 6e-8 of its size (2e-6 for a thousand) and
            adds up over layers: networks here are at 5e-7. The default leaves
            room for about a hundred layers. Missing weights are found by
            decoding the file, however small they are.
        latency_seconds: How long to time the file against the dense one; 0 for
            not at all.

    Returns:
        The sizes, encodings, differences and times, and what was tried.

    Raises:
        ValueError: If an argument does not fit; nothing is converted then.
        ExportError: If no correct file can be made.
        RuntimeError: If Keras runs on another backend than TensorFlow.

    Example:
    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    samples = np.random.default_rng(0).normal(size=(16, 8))
    report = export_tflite(model, "model.tflite", samples=samples)
    print(report)
    ```
    """
    backend.check_can_export()
    path = _check_path(path)
    _check_positive("tolerance", tolerance, zero=False)
    _check_positive("latency_seconds", latency_seconds, zero=True)
    reference = build_reference(model, samples)
    with Source(reference) as source:
        dense = _convert_dense(source)
        trials = try_candidates(source, reference, tolerance)
    chosen = choose(trials)
    report = _report(path, dense, chosen, trials, reference, tolerance, latency_seconds)
    _write(path, chosen.file)
    return report


def _check_path(path: str | os.PathLike[str]) -> pathlib.Path:
    checked = pathlib.Path(path)
    if checked.suffix != ".tflite":
        raise ValueError(f"`path` must end in '.tflite'. Received: path={str(path)!r}")
    if not checked.parent.is_dir():
        raise ValueError(
            f"The folder of `path` must exist. Received: path={str(path)!r}"
        )
    if checked.is_dir():
        raise ValueError(
            f"`path` must be a file, not a folder. Received: path={str(path)!r}"
        )
    return checked


def _check_positive(name: str, value: float, *, zero: bool) -> None:
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        kind = "not be negative" if zero else "be positive"
        raise ValueError(f"`{name}` must {kind} and finite. Received: {name}={value}")


def _convert_dense(source: Source) -> bytes:
    try:
        return source.dense
    # The converter raises its own type, or whatever tracing the model raises.
    except Exception as error:
        hint = ""
        if "TensorList" in str(error):  # what a loop over steps becomes
            hint = "Recurrent layers convert when they are made with `unroll=True`. "
        raise ExportError(
            "TensorFlow Lite's converter cannot convert this model, not even without "
            f"sparse encoding; nothing was written. {hint}It says: {error}"
        ) from error


def _report(
    path: pathlib.Path,
    dense: bytes,
    chosen: Trial,
    trials: list[Trial],
    reference: Reference,
    tolerance: float,
    latency_seconds: float,
) -> ExportReport:
    tensors = tuple(map(_encoding, chosen.weights))
    kernels = sum(tensor.dense_bytes for tensor in tensors)
    bitmap = sum(tensor.bitmap_bytes for tensor in tensors)
    latency = None
    if latency_seconds:
        inputs = reference.batches[0].inputs
        latency = measure_latency(dense, chosen.file, inputs, latency_seconds)
    return ExportReport(
        path=str(path),
        candidate=chosen.candidate,
        bytes_dense=len(dense),
        bytes_written=len(chosen.file),
        bytes_bitmap=len(dense) - kernels + bitmap,
        gzip_dense=gzip_bytes(dense),
        gzip_written=gzip_bytes(chosen.file),
        tensors=tensors,
        differences=chosen.verification.differences,
        tolerance=tolerance,
        latency=latency,
        attempts=tuple(_attempt(trial, chosen) for trial in trials),
    )


def _encoding(kernel: Weights) -> TensorEncoding:
    return TensorEncoding(
        name=kernel.name,
        shape=kernel.values.shape,
        sparsity=1 - kernel.nonzero / kernel.values.size,
        encoding=kernel.encoding,
        bytes=kernel.bytes,
        dense_bytes=kernel.values.size * VALUE_BYTES,
        bitmap_bytes=kernel.bitmap_bytes,
    )


def _attempt(trial: Trial, chosen: Trial) -> Attempt:
    size = None if trial.file is None else len(trial.file)
    if trial.problem is not None:
        outcome = trial.problem
    elif trial is chosen:
        outcome = f"written: correct, {size:,} bytes"
    else:
        outcome = f"correct, but not smaller: {size:,} bytes"
    correct = trial.correct if trial.needed else None
    return Attempt(trial.candidate, size, correct, outcome)


def _write(path: pathlib.Path, file: bytes) -> None:
    """Puts the file at `path` as a whole or not at all."""
    # In the same folder, for a rename across file systems is a copy.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(partial, "xb") as handle:
            handle.write(file)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
