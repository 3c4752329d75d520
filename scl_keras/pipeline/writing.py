"""What `compress` writes into its folder."""

import dataclasses
import json
import math

from scl_keras import backend


def write(result, folder, samples, labels, may_lose, optimize_for, dtype):
    """Writes the models, the file for the phone and the report.

    Args:
        result: A `Compressed`.
        folder: A `pathlib.Path`, made if it isn't there.
        samples: Inputs, as `export_tflite` takes them.
        labels: Their class indices, or None.
        may_lose: What accuracy the file may lose of the sparse model's, or None.
        optimize_for: See `export_tflite`.
        dtype: See `export_tflite`.

    Returns:
        The `Compressed` with its `ExportReport`; on other backends than TensorFlow,
        which can't export, as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result.model.save(folder / "model.keras")
    result.compact.save(folder / "compact.keras")
    if backend.can_export():
        from scl_keras.export import export_tflite

        options = {} if labels is None else {"labels": labels}
        if may_lose is not None and labels is not None:
            options["max_accuracy_drop"] = may_lose
        report = export_tflite(
            result.model,
            folder / "model.tflite",
            samples=samples,
            optimize_for=optimize_for,
            dtype=dtype,
            **options,
        )
        result = dataclasses.replace(result, export=report)
    (folder / "report.txt").write_text(f"{result}\n")
    (folder / "report.json").write_text(json.dumps(_plain(result.as_dict()), indent=2))
    result.plot().savefig(folder / "report.png", dpi=120)
    return result


def _plain(data):
    """JSON has no infinity and no NaN: None in their place."""
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
