"""A TFLite file, compared with a model."""

import argparse
import pathlib

from scl_keras.command_line.data import samples_and_labels
from scl_keras.command_line.flags import DATA_HELP, add_samples, pairs
from scl_keras.command_line.models import check_can_export, read_model
from scl_keras.command_line.outcome import Outcome

SUMMARY = (
    "tell whether a TFLite file, of whatever converter, computes what a model does"
)
DESCRIPTION = """\
Runs a TFLite file, made by whatever means, on samples: with and without the default
delegate (XNNPACK), with 1, 2 and 4 threads, one sample at a time and several at once.
Compares each output with Keras. Inputs and outputs may be integers, with scales.

  python -m scl_keras verify model.tflite --model=model.keras --data=arrays.npz
  python -m scl_keras verify model.tflite --model=model.keras --data=arrays.npz \\
      --inputs u=left v=right --json
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    add = parser.add_argument
    add("file", help="a .tflite file")
    add("--model", required=True, help="a .keras file")
    add("--data", required=True, help=DATA_HELP)
    add_samples(parser)
    add("--tolerance", type=float,
        help="largest difference that counts as the same, as a share of the largest "
        "output (default: by how the file rounds, 1e-4 for float32)")  # fmt: skip
    for side in ("inputs", "outputs"):
        add(f"--{side}", nargs="+", metavar="FILE=MODEL",
            help=f"names of {side}, in the file and in the model, where they can't be "
            "told apart")  # fmt: skip


def run(flags: argparse.Namespace) -> Outcome:
    """Runs it."""
    from scl_keras.export import ExportError, verify_tflite

    check_can_export()
    names = {side: pairs(vars(flags)[side], side) for side in ("inputs", "outputs")}
    with pathlib.Path(flags.file).open("rb"):  # before a model is read
        pass
    model = read_model(flags.model)
    samples, labels = samples_and_labels(flags.data, model, flags.samples)
    try:
        found = verify_tflite(
            flags.file,
            model,
            samples,
            labels=labels,
            tolerance=flags.tolerance,
            **names,
        )
    except ExportError as error:  # the model isn't what it is in float32
        return Outcome({"correct": False, "problems": [str(error)]}, str(error), False)
    return Outcome(found.as_dict(), str(found), found.correct)
