"""What the binaries write down: JSON, in one step, with the versions that made it."""

import json
import pathlib
import platform
import shlex
import sys
from importlib import metadata

import keras
import numpy as np

import scl_keras
from scl_keras.files import write_whole


def versions():
    """Versions of all that a result depends on, and what computed it: a dict."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "scl_keras": scl_keras.__version__,
        backend: metadata.version(backend),
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def command_line():
    """The command that started this binary, without the folders of this machine."""
    options, arguments = [], iter(sys.argv[1:])
    for argument in arguments:
        name, is_set, _ = argument.partition("=")
        if name.lstrip("-") not in ("out", "data_dir"):
            options.append(argument)
        elif not is_set:
            next(arguments, None)
    binary, root = (pathlib.Path(p).resolve() for p in (sys.argv[0], __file__))
    root = root.parents[1]
    name = binary.relative_to(root) if binary.is_relative_to(root) else binary.name
    return shlex.join(["python", str(name), *options])


def write_text(path, text):
    """Writes a text file as a whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def write_json(path, document):
    """Writes JSON as a whole or not at all."""
    write_text(path, json.dumps(document, indent=2) + "\n")
