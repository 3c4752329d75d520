"""A model, pruned."""

import argparse

from scl_keras.command_line.data import all_data
from scl_keras.command_line.flags import (
    DATA_HELP,
    add_input_shapes,
    add_sparsity,
    granularity,
)
from scl_keras.command_line.models import check_out, read_model, write_model
from scl_keras.command_line.outcome import Outcome

# Those of `scl_keras.pruning`, which imports Keras.
METHODS = ("iterative_snip", "lamp", "magnitude", "random", "snip", "synflow")
QUOTAS = ("erk", "igq", "uniform", "uniform_plus")

SUMMARY = "cut the connections of a model that score lowest"
DESCRIPTION = """\
Cuts the connections of a model that score lowest by a method, and writes the model with
masks that keep them cut. Import scl_keras, and `keras.saving.load_model` loads it:
training fine-tunes what is left. All other commands take it as it is.

With --strip it is a stock Keras model, which needs no scl_keras: the connections that
were cut are zeros, and training would move them again.

  python -m scl_keras prune model.keras --out=pruned.keras --sparsity=0.9
  python -m scl_keras prune model.keras --out=half.keras --granularity=2:4
  python -m scl_keras prune model.keras --out=pruned.keras --compression=20 \\
      --method=snip --data=arrays.npz
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    add = parser.add_argument
    add("model", help="a .keras file")
    add("--out", required=True, help="the .keras file to write; replaced if it's there")
    add_sparsity(parser)
    add("--method", choices=METHODS, default="lamp",
        help="what scores connections (default: lamp, magnitudes within each kernel); "
        "snip and iterative_snip need --data")  # fmt: skip
    add("--quotas", choices=QUOTAS,
        help="how many connections each kernel keeps; by default all kernels are "
        "ranked together")  # fmt: skip
    add("--effective", action="store_true",
        help="count only connections on a path from an input to an output")  # fmt: skip
    add("--granularity", type=granularity, metavar="N:M",
        help="keep at most N of every M connections, as 2:4")  # fmt: skip
    add("--layers", nargs="+", metavar="NAME",
        help="names of the layers to prune (default: all that can be)")  # fmt: skip
    add("--data", help=DATA_HELP)
    add("--steps", type=int, help="batches of 256 samples to take of it (default: all)")
    add("--loss", help="by name, as mse (default: what the model is compiled with)")
    add("--strip", action="store_true",
        help="write a stock model, with zeros in the place of masks")  # fmt: skip
    add_input_shapes(parser)


def run(flags: argparse.Namespace) -> Outcome:
    """Runs it."""
    from scl_keras.conversion import strip_masks
    from scl_keras.masks import NM
    from scl_keras.pruning import prune
    from scl_keras.report import summary

    check_out(flags.out, ".keras")
    model = read_model(flags.model, compiled=True)
    prune(
        model,
        flags.method,
        flags.sparsity,
        flags.compression,
        quotas=flags.quotas,
        effective=flags.effective,
        data=None if flags.data is None else all_data(flags.data, model),
        steps=flags.steps,
        loss=flags.loss,
        layers=flags.layers,
        granularity=None if flags.granularity is None else NM(*flags.granularity),
        input_shapes=flags.input_shapes,
    )
    table = summary(model, print_fn=None, input_shapes=flags.input_shapes)
    if flags.strip:
        strip_masks(model)
    write_model(model, flags.out)
    data = {"out": flags.out, "method": flags.method, "masked": not flags.strip}
    kind = "without masks" if flags.strip else "with masks"
    return Outcome(
        {**data, "connections": table.as_dict()},
        f"{table}\n{flags.out} is written, {kind}.",
    )
