"""`scl_keras.compress` from the command line: `python -m scl_keras compress --help`."""

import argparse
import pathlib
import sys
import zipfile

import keras
import numpy as np

from scl_keras.pipeline import compress

_SHARE = 0.1  # of the samples, to validate on where the file says nothing of it
_NAMES = ("x_train", "y_train", "x_val", "y_val")


def main(arguments: list[str] | None = None) -> None:
    """Reads the flags, and runs the command."""
    flags = _parser().parse_args(arguments)
    try:
        model = keras.models.load_model(flags.model)
        training, validation = read_arrays(flags.data)
        options = vars(flags) | {"verbose": 1}
        for name in ("command", "model", "data"):
            options.pop(name)
        compress(model, training, validation, **options)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def read_arrays(path: str) -> tuple[tuple, tuple]:
    """Training and validation data of an `.npz` file.

    Args:
        path: A file with `x_train`, `y_train`, `x_val` and `y_val`, or with `x` and
            `y`: of these a tenth, chosen at random but always the same, is validated
            on.

    Returns:
        Two pairs of arrays.

    Raises:
        ValueError: If it has other arrays.
    """
    with np.load(pathlib.Path(path), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if {*_NAMES} <= set(arrays):
        x, y, x_val, y_val = (arrays[name] for name in _NAMES)
        return (x, y), (x_val, y_val)
    if not {"x", "y"} <= set(arrays) or len(arrays["x"]) != len(arrays["y"]):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"{path} must have the arrays {', '.join(_NAMES)}, or x and y of the same "
            f"length. Received: {shapes}"
        )
    x, y = arrays["x"], arrays["y"]
    order = np.random.default_rng(0).permutation(len(x))
    held, rest = np.split(order, [max(1, round(_SHARE * len(x)))])
    return (x[rest], y[rest]), (x[held], y[held])


def _parser():
    parser = argparse.ArgumentParser("python -m scl_keras")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compress",
        help="make of a trained model the smallest file that is as good as asked for",
    )
    add = command.add_argument
    add("model", help="a compiled model, a .keras file")
    add("--data", required=True, help=".npz of x_train, y_train, x_val, y_val; or x, y")
    add("--out", required=True, help="folder for what is written")
    goal = command.add_mutually_exclusive_group(required=True)
    goal.add_argument("--max_drop", type=float, help="what the metric may lose")
    goal.add_argument("--max_bytes", type=int, help="the most the file may have")
    goal.add_argument("--speedup", type=float, help="times as fast as the dense file")
    goal.add_argument("--sparsity", type=float, help="share of connections to cut")
    goal.add_argument("--compression", type=float, help="connections over those kept")
    add("--monitor", help="the metric, as val_accuracy; default: the model's first")
    add("--mode", choices=("auto", "max", "min"), default="auto", help="of the metric")
    add("--epochs", type=int, help="of the training; default: 15 or more")
    add("--batch_size", type=int, default=32, help="samples a step")
    add("--learning_rate", type=float, help="at first; default: the optimizer's")
    add("--dtype", choices=("float32", "float16", "int8"),
        help="the coarsest precision; int8, or for a speed float32")  # fmt: skip
    add("--optimize_for", choices=("size", "latency", "balanced"),
        help="what the file is chosen by; default: size, or latency")  # fmt: skip
    return parser


if __name__ == "__main__":
    main()
