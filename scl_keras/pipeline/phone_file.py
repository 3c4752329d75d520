"""The file for the phone: as coarse as what may still be lost allows."""

import dataclasses

import keras

from scl_keras import backend
from scl_keras.callbacks.baseline import is_accuracy

SAMPLES = 512
_FINER = {"int8": "float16", "float16": "float32"}
_ROUNDING = 1e-6  # of a mean over batches


def steps_of_file(request):
    """Number of steps that making the file of a `Request` takes, 0 if none is made."""
    if request.out is None or not backend.can_export():
        return 0
    from scl_keras.export.tflite import export_steps

    return export_steps(request.dtype)


def export(result, request, validation, labels, progress):
    """Writes the file, and measures it on all validation data.

    `export_tflite` compares accuracies, of the first samples, for a model with classes.
    Any other metric, such as that of one of several outputs, is measured here; if the
    file loses too much of it, a finer precision has to do. If the goal isn't a metric,
    half a percent of an accuracy is what it may lose. Where that makes the file larger
    or slower than was asked for, it may lose more.

    Args:
        result: A `Compressed`.
        request: The `Request`.
        validation: `Data`.
        labels: Their class indices, or None.
        progress: The `Progress` to go on with.

    Returns:
        The `Compressed` with its `ExportReport`, and with what was measured.
    """
    from scl_keras.export.accuracy import DEFAULT_MAX_DROP

    goal, may_lose = request.goal, None
    if goal.kind == "max_drop":
        may_lose = max(goal.value - result.drop, 0.0)
    elif is_accuracy(result.monitor):
        may_lose = DEFAULT_MAX_DROP
    samples, _ = validation.first(SAMPLES)
    options = {"samples": samples, "verbose": progress.exported}
    if labels is not None and _has_classes(result.model, samples):
        options["labels"] = labels[:SAMPLES]
    result = as_coarse_as_allowed(result, request, validation, may_lose, options)
    if not goal.is_met_by(result.export):
        result = as_coarse_as_allowed(result, request, validation, None, options)
    # Of a file it is the file that tells, also after an interruption.
    met = goal.is_met_by(result.export) if goal.is_of_file else result.met
    return dataclasses.replace(result, met=met)


def as_coarse_as_allowed(result, request, validation, may_lose, options):
    """Writes the file, of ever finer precision until it loses no more than it may.

    Args:
        result: A `Compressed`.
        request: The `Request`.
        validation: `Data`.
        may_lose: What it may lose of the metric, or None for whatever it loses.
        options: Other arguments of `export_tflite`.

    Returns:
        The `Compressed` with its `ExportReport`, and with what was measured.
    """
    from scl_keras.export import export_tflite
    from scl_keras.export.metrics import evaluate_file

    path, dtype = request.out / "model.tflite", request.dtype
    if "labels" in options and is_accuracy(result.monitor):
        all_of_it = 1.0 if may_lose is None else may_lose
        options = {**options, "max_accuracy_drop": all_of_it}
    while True:
        report = export_tflite(
            result.model,
            path,
            optimize_for=request.optimize_for,
            dtype=dtype,
            **options,
        )
        in_file = evaluate_file(path, result.model, validation.batches())
        result = dataclasses.replace(result, export=report, in_file=in_file)
        precision = report.candidate.split()[0]
        if precision not in _FINER or _is_good(result, may_lose):
            return result
        dtype = _FINER[precision]


def _has_classes(model, samples):
    """Whether it has one output, the entries of which are classes."""
    answers = keras.tree.flatten(model.predict(samples, verbose=0))
    return len(answers) == 1 and answers[0].ndim == 2 and answers[0].shape[-1] > 1


def _is_good(result, may_lose):
    if may_lose is None or result.in_file is None:
        return True
    lost = result.lost(result.after, result.in_file)
    return lost <= may_lose + _ROUNDING  # not where it is NaN
