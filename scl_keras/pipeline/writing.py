"""What `compress` writes into its folder."""

import json
import math

from scl_keras import backend
from scl_keras.pipeline.phone_file import export


def write(result, folder, validation, labels, may_lose, optimize_for, dtype, verbose):
    """Writes the models, the file for the phone and the report.

    Args:
        result: A `Compressed`.
        folder: A `pathlib.Path`, made if it isn't there.
        validation: `Data`.
        labels: Their class indices, or None.
        may_lose: What the file may lose of the sparse model's metric, or None.
        optimize_for: See `export_tflite`.
        dtype: See `export_tflite`.
        verbose: See `export_tflite`.

    Returns:
        The `Compressed` with its `ExportReport`; on other backends than TensorFlow,
        which can't export, as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result.model.save(folder / "model.keras")
    result.compact.save(folder / "compact.keras")
    if backend.can_export():
        path = folder / "model.tflite"
        asked = may_lose, optimize_for, dtype, verbose
        result = export(result, path, validation, labels, *asked)
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
