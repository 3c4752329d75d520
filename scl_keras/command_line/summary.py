"""What is left of a model's connections."""

import argparse

from scl_keras.command_line.flags import add_input_shapes
from scl_keras.command_line.models import read_model
from scl_keras.command_line.outcome import Outcome

SUMMARY = "print how sparse a model is, kernel by kernel"
DESCRIPTION = """\
Prints, for each kernel of a model, how many connections are left, how many of these
are effective (on a path from an input to an output), and how many multiply-accumulates.

Masked layers are read by their masks, stock layers by the zeros in their kernels: any
.keras file will do.

  python -m scl_keras summary model.keras
  python -m scl_keras summary model.keras --json | jq .compression
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.add_argument("model", help="a .keras file")
    add_input_shapes(parser)


def run(flags: argparse.Namespace) -> Outcome:
    """Runs it."""
    from scl_keras.report import summary

    model = read_model(flags.model)
    table = summary(model, print_fn=None, input_shapes=flags.input_shapes)
    return Outcome(table.as_dict(), str(table))
