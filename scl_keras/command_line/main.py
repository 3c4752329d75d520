"""The program: reads the flags, runs a command, prints, and returns the exit code."""

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from types import ModuleType

import scl_keras
from scl_keras.command_line import compress, export, prune, summary, verify
from scl_keras.command_line.flags import add_shared
from scl_keras.command_line.outcome import Code, Outcome

_PROGRAM = "python -m scl_keras"

COMMANDS: dict[str, ModuleType] = {
    "compress": compress,
    "prune": prune,
    "summary": summary,
    "export": export,
    "verify": verify,
}

# What the exit code 1 says, of the commands that have it.
_NO = {
    "compress": "the bound wasn't met, or no file is right",
    "export": "no file computes what the model computes, and none is written",
    "verify": "the file doesn't compute what the model computes",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the arguments ask for.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: After `--help`, and for wrong flags.
    """
    flags = parser().parse_args(arguments)
    try:
        outcome = _run(flags)
    except (OSError, ValueError) as error:
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        print(f"{_PROGRAM} {flags.command}: error: {name}{error}", file=sys.stderr)
        return Code.BAD_INPUT
    except KeyboardInterrupt:
        print(f"{_PROGRAM} {flags.command}: interrupted", file=sys.stderr)
        return Code.INTERRUPTED
    except Exception:
        traceback.print_exc()
        return Code.FAILED
    if flags.json:
        from scl_keras.rendering import as_json

        print(as_json(outcome.data))
    elif outcome.text is not None:
        print(outcome.text)
    return Code.DONE if outcome.is_true else Code.NOT_TRUE


def parser() -> argparse.ArgumentParser:
    """Returns what reads the flags, of all commands."""
    made = argparse.ArgumentParser(
        _PROGRAM,
        description="Sparse Keras models, and TFLite files of them.",
        epilog=f"`{_PROGRAM} COMMAND --help` explains a command.\n\n"
        + _codes("see the command"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=_codes(_NO.get(name)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_flags(added)
        add_shared(added)
    return made


def _codes(no: str | None) -> str:
    """What the exit codes say: those of `Code`."""
    lines = [
        "exit codes:",
        "  0  done",
        f"  1  done, and the answer is no: {no}",
        "  2  wrong usage or bad input, told on standard error; nothing is written",
        "  3  anything else that failed, with a traceback",
    ]
    return "\n".join(line for line in lines if no is not None or "answer" not in line)


def _run(flags: argparse.Namespace) -> Outcome:
    """Runs a command; with `--json`, what it prints is no part of the document."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is there
    elsewhere = contextlib.redirect_stdout(sys.stderr)
    with elsewhere if flags.json else contextlib.nullcontext():
        if "SCLModel" not in vars(scl_keras):  # see there
            importlib.reload(scl_keras)
        for name in flags.imports:
            _import(name)
        return COMMANDS[flags.command].run(flags)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a module of the user's raises
        raise ValueError(
            f"--import={name}: it can't be imported from {os.getcwd()!r}, nor from "
            f"what is installed or in PYTHONPATH. {type(error).__name__}: {error}"
        ) from error
