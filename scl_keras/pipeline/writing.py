"""What `compress` writes into its folder."""

import dataclasses

from scl_keras import backend
from scl_keras.rendering import as_json

_NO_FILE = (
    "TensorFlow makes the file for the phone: `KERAS_BACKEND=tensorflow python -m "
    "scl_keras export {folder}/model.keras --out={folder}/model.tflite --dtype=int8 "
    "--optimize_for=size --data=SAMPLES.npz`."
)


def write(result, request, samples, labels, verbose):
    """Writes the models, the file for the phone and the report.

    Args:
        result: A `Compressed`.
        request: The `Request`, with a folder, which is made if it isn't there.
        samples: Inputs, as `export_tflite` takes them.
        labels: Their class indices, or None.
        verbose: Whether to show a progress bar.

    Returns:
        The `Compressed` with its `ExportReport`; on other backends than TensorFlow,
        which can't export, as it is.
    """
    folder = request.out
    folder.mkdir(parents=True, exist_ok=True)
    result.model.save(folder / "model.keras")
    result.compact.save(folder / "compact.keras")
    if backend.can_export():
        report = _export(result, request, samples, labels, verbose)
        met = result.met and request.goal.is_met_by(report)
        result = dataclasses.replace(result, export=report, met=met)
    else:
        note = _NO_FILE.format(folder=folder)
        result = dataclasses.replace(result, notes=(*result.notes, note))
    (folder / "report.txt").write_text(f"{result}\n")
    (folder / "report.json").write_text(as_json(result.as_dict()))
    result.plot().savefig(folder / "report.png", dpi=120)
    return result


def _export(result, request, samples, labels, verbose):
    from scl_keras.export import export_tflite

    goal, options = request.goal, {}
    if labels is not None:
        options["labels"] = labels
        if goal.kind == "max_drop":
            left = goal.value - result.drop
            options["max_accuracy_drop"] = max(left, 0.0)

    def export():
        return export_tflite(
            result.model,
            request.out / "model.tflite",
            samples=samples,
            optimize_for=request.optimize_for,
            dtype=request.dtype,
            verbose=verbose,
            **options,
        )

    report = export()
    if not goal.is_met_by(report) and labels is not None:
        options["max_accuracy_drop"] = 1.0  # it was asked for, whatever it costs
        report = export()
    return report
