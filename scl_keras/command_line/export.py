"""A model as a TFLite file."""

import argparse

from scl_keras.command_line.data import random_samples, samples_and_labels
from scl_keras.command_line.flags import DATA_HELP, add_samples
from scl_keras.command_line.models import check_can_export, check_out, read_model
from scl_keras.command_line.outcome import Outcome
from scl_keras.export_choices import DTYPES, GOALS

SUMMARY = "write a model as the best TFLite file that computes the same"
DESCRIPTION = """\
Tries every file that may be worth it, runs each, compares it with Keras, times the
right ones against each other, and writes the best: small, fast or both, as asked for.

Give real inputs by --data. If there are targets of a classifier among them, a file of
lower precision may lose no more than --max_accuracy_drop. Without --data the files are
compared on random numbers, and --dtype=int8, which is calibrated on inputs, is refused.

  python -m scl_keras export model.keras --out=model.tflite --data=arrays.npz
  python -m scl_keras export model.keras --out=model.tflite --data=arrays.npz \\
      --dtype=int8 --optimize_for=size
"""

_RANDOM = 64  # samples


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    add = parser.add_argument
    add("model", help="a .keras file, with masks or without")
    add(
        "--out", required=True, help="the .tflite file to write; replaced if it's there"
    )
    add("--data", help=DATA_HELP)
    add_samples(parser)
    add("--dtype", choices=DTYPES, default="float32",
        help="the coarsest precision allowed (default: float32)")  # fmt: skip
    add("--optimize_for", choices=GOALS, default="balanced",
        help="what the file is chosen by (default: balanced, bytes times time)",
        )  # fmt: skip
    add("--max_accuracy_drop", type=float,
        help="what a lower precision may lose of the accuracy (default: 0.005)",
        )  # fmt: skip
    add("--tolerance", type=float,
        help="largest difference to Keras that counts as the same, as a share of the "
        "largest output (default: by precision)")  # fmt: skip
    add("--latency_seconds", type=float, default=2.0,
        help="how long to time the files; 0 for not at all (default: 2)")  # fmt: skip


def run(flags: argparse.Namespace) -> Outcome:
    """Runs it."""
    from scl_keras.export import ExportError, export_tflite

    check_can_export()
    check_out(flags.out, ".tflite")
    if flags.data is None and flags.dtype == "int8":
        raise ValueError("--dtype=int8 is calibrated on real inputs: give --data.")
    model = read_model(flags.model)
    if flags.data is None:
        samples, labels = random_samples(model, min(_RANDOM, flags.samples)), None
    else:
        samples, labels = samples_and_labels(flags.data, model, flags.samples)
    try:
        report = export_tflite(
            model,
            flags.out,
            samples=samples,
            labels=labels,
            dtype=flags.dtype,
            optimize_for=flags.optimize_for,
            max_accuracy_drop=flags.max_accuracy_drop,
            tolerance=flags.tolerance,
            latency_seconds=flags.latency_seconds,
        )
    except ExportError as error:
        return Outcome({"path": None, "problem": str(error)}, str(error), False)
    note = "\nCompared on random numbers: there is no --data." * (flags.data is None)
    data = {**report.as_dict(), "random_samples": flags.data is None}
    return Outcome(data, f"{report}{note}")
