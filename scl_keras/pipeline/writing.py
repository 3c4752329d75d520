"""What `compress` writes into its folder."""

import dataclasses

from scl_keras import backend
from scl_keras.pipeline.phone_file import export
from scl_keras.rendering import as_json

_NO_FILE = (
    "TensorFlow makes the file for the phone: `KERAS_BACKEND=tensorflow python -m "
    "scl_keras export {folder}/model.keras --out={folder}/model.tflite --dtype=int8 "
    "--optimize_for=size --data=SAMPLES.npz`."
)


def write(result, request, validation, labels, progress):
    """Writes the models, the file for the phone and, last, the report.

    An older report goes first: what is in a folder without one isn't complete.

    Args:
        result: A `Compressed`.
        request: The `Request`, with a folder, which is made if it isn't there.
        validation: `Data`.
        labels: Their class indices, or None.
        progress: The `Progress` to go on with.

    Returns:
        The `Compressed` with its `ExportReport`; on other backends than TensorFlow,
        which can't export, as it is.
    """
    folder = request.out
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.txt", "report.json", "report.png", "model.tflite"):
        (folder / name).unlink(missing_ok=True)
    result.model.save(folder / "model.keras")
    result.compact.save(folder / "compact.keras")
    if backend.can_export():
        result = export(result, request, validation, labels, progress)
    else:
        note = _NO_FILE.format(folder=folder)
        result = dataclasses.replace(result, notes=(*result.notes, note))
    (folder / "report.txt").write_text(f"{result}\n")
    (folder / "report.json").write_text(as_json(result.as_dict()))
    result.plot().savefig(folder / "report.png", dpi=120)
    return result
