"""Flags that several commands have."""

import argparse
import re

DATA_HELP = (
    ".npz file with the arrays x and y (or x_train, y_train, x_val and y_val). Of "
    "several inputs, or outputs, each has an array x.NAME, or y.NAME"
)


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Adds what every command has."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document, and nothing else, to standard output",
    )
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module to import first, which registers the model's own classes with "
        "`@keras.saving.register_keras_serializable()`; may be given several times",
    )


def add_input_shapes(parser: argparse.ArgumentParser) -> None:
    """Adds the shapes of a model's inputs."""
    parser.add_argument(
        "--input_shapes",
        metavar="SHAPE",
        nargs="+",
        type=_shape,
        help="shapes of the inputs without the batch axis, where the model leaves "
        "sizes open: 224,224,3",
    )


def add_samples(parser: argparse.ArgumentParser, default: int = 512) -> None:
    """Adds how many samples are taken."""
    parser.add_argument(
        "--samples",
        type=_count,
        default=default,
        metavar="N",
        help="how many samples of the data to run, from the first one on "
        f"(default: {default})",
    )


def add_sparsity(parser: argparse.ArgumentParser, required: bool = False):
    """Adds the two ways to say how sparse, and returns their group."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument(
        "--sparsity", type=float, help="share of connections to cut, from 0 to 1"
    )
    group.add_argument(
        "--compression", type=float, help="connections over connections kept"
    )
    return group


def granularity(text: str) -> tuple[int, int]:
    """What 2:4 says: at most two of every four connections."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"it is written as 2:4, and not {text!r}")
    return int(found[1]), int(found[2])


def pairs(texts: list[str] | None, flag: str) -> dict[str, str] | None:
    """A dict of texts such as `file_name=model_name`.

    Raises:
        ValueError: If there is no "=" in one.
    """
    if texts is None:
        return None
    parts = [text.partition("=") for text in texts]
    if not all(middle for _, middle, _ in parts):
        raise ValueError(
            f"--{flag} takes pairs such as name_in_the_file=name_in_the_model. "
            f"Received: {' '.join(texts)}"
        )
    return {name: own for name, _, own in parts}


def _shape(text):
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a shape is written as 224,224,3, and not {text!r}"
        ) from None


def _count(text):
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number >= 1, and not {text!r}")
    return int(text)
