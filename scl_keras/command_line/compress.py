"""`scl_keras.compress`: from a trained model to the file."""

import argparse

from scl_keras.command_line.data import training_data
from scl_keras.command_line.flags import DATA_HELP, add_sparsity, granularity
from scl_keras.command_line.models import read_model
from scl_keras.command_line.outcome import Outcome
from scl_keras.export_choices import DTYPES, GOALS

SUMMARY = "make of a trained model a file that is as good, small or fast as asked for"
DESCRIPTION = """\
Trains a copy of a model to do without connections, the model itself being its teacher,
and finds out how many it can do without. Writes a folder: model.tflite, the best file
that it ran and found right; model.keras and compact.keras; and a report as text, data
and picture. After Ctrl-C it goes on to the file with the best that it has. The same
command, with the same --out, then goes on where it was, also after it was killed.

Say one thing that is wanted: what the metric may lose (--max_drop, and the smallest
file is found that keeps to it), --max_bytes, --speedup, --sparsity or --compression.

  python -m scl_keras compress model.keras --data=arrays.npz --max_drop=0.01 --out=small
"""

OWN = ("command", "model", "data", "json", "imports")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    add = parser.add_argument
    add("model", help="a compiled model, a .keras file")
    add(
        "--data", required=True, help=f"{DATA_HELP}. A tenth of x and y is validated on"
    )
    add("--out", required=True, help="folder for what is written")
    goal = add_sparsity(parser, required=True)
    goal.add_argument("--max_drop", type=float, help="what the metric may lose")
    goal.add_argument("--max_bytes", type=int, help="the most that the file may have")
    goal.add_argument("--speedup", type=float, help="times as fast as the dense file")
    add("--monitor", help="the metric, as val_accuracy; default: the model's first")
    add("--mode", choices=("auto", "max", "min"), default="auto", help="of the metric")
    add("--epochs", type=int, help="of the training; default: 15 or more")
    add("--batch_size", type=int, default=32, help="samples a step")
    add("--learning_rate", type=float, help="at first; default: the optimizer's")
    add("--nodistill", dest="distill", action="store_false",
        help="train without the dense model as the teacher")  # fmt: skip
    add("--granularity", type=_granularity, metavar="N:M",
        help="connection, channel, or at most N of every M connections, as 2:4 "
        "(default: connection, or for a speed what makes files faster)")  # fmt: skip
    add("--dtype", choices=DTYPES,
        help="the coarsest precision (default: int8, or for a speed float32)",
        )  # fmt: skip
    add("--optimize_for", choices=GOALS,
        help="what the file is chosen by (default: size, or for a speed latency)",
        )  # fmt: skip


def run(flags: argparse.Namespace) -> Outcome:
    """Runs it."""
    from scl_keras.masks import NM
    from scl_keras.pipeline import compress

    model = read_model(flags.model, compiled=True)
    training, validation = training_data(flags.data, model)
    options = {k: v for k, v in vars(flags).items() if k not in OWN}
    if isinstance(flags.granularity, tuple):
        options["granularity"] = NM(*flags.granularity)
    try:
        result = compress(model, training, validation, **options)  # prints the report
    except RuntimeError as error:
        if not _is_export_error(error):
            raise
        data = {"out": flags.out, "met": False, "problem": str(error)}
        return Outcome(data, str(error), False)
    return Outcome({"out": flags.out, **result.as_dict()}, None, result.met)


def _granularity(text):
    return text if text in ("connection", "channel") else granularity(text)


def _is_export_error(error):
    from scl_keras import backend

    if not backend.can_export():  # nor is TensorFlow imported
        return False
    from scl_keras.export import ExportError

    return isinstance(error, ExportError)
