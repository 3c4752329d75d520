"""The file for the phone: as coarse as what may still be lost allows."""

import dataclasses

import keras

from scl_keras.callbacks.baseline import is_accuracy

SAMPLES = 512
_FINER = {"int8": "float16", "float16": "float32"}
_ROUNDING = 1e-6  # of a mean over batches


def export(result, path, validation, labels, may_lose, optimize_for, dtype, verbose):
    """Writes the file, and measures it on all validation data.

    `export_tflite` compares accuracies, of the first samples, for a model with classes.
    Any other metric, such as that of one of several outputs, is measured here; if the
    file loses too much of it, a finer precision has to do. Where masks are asked for by
    number, half a percent of an accuracy is what it may lose.

    Args:
        result: A `Compressed`.
        path: Of the file.
        validation: `Data`.
        labels: Their class indices, or None.
        may_lose: What the file may lose of the sparse model's metric, or None.
        optimize_for: See `export_tflite`.
        dtype: See `export_tflite`.
        verbose: See `export_tflite`.

    Returns:
        The `Compressed` with its `ExportReport`, and with what was measured.
    """
    from scl_keras.export import export_tflite
    from scl_keras.export.accuracy import DEFAULT_MAX_DROP
    from scl_keras.export.metrics import evaluate_file

    samples, _ = validation.first(SAMPLES)
    options = {}
    if may_lose is None and is_accuracy(result.monitor):
        may_lose = DEFAULT_MAX_DROP
    if labels is not None and _has_classes(result.model, samples):
        options["labels"] = labels[:SAMPLES]
        if is_accuracy(result.monitor):
            options["max_accuracy_drop"] = may_lose
    while True:
        report = export_tflite(
            result.model,
            path,
            samples=samples,
            optimize_for=optimize_for,
            dtype=dtype,
            verbose=verbose,
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
    name = result.monitor.removeprefix("val_")
    lost = result.after[name] - result.in_file[name]
    lost = lost if result.larger_is_better else -lost
    return lost <= may_lose + _ROUNDING  # not where it is NaN
