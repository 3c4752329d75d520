"""Loads and runs a TFLite file in a process of its own, which may crash.

The runtime checks a file before it reads it, and still a damaged one can end the
process: no exception tells of that. So this module is a program, too. It reads the
bytes of a file from standard input, and ends with 0 whether the file runs or is refused
by an exception: those are met again where they can be told.
"""

import contextlib
import subprocess
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

THREADS = (1, 2, 4)
RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)

_SECONDS = 600


def check_survives(file: bytes) -> None:
    """Refuses a file that ends the process that runs it.

    Args:
        file: The bytes of a TFLite file.

    Raises:
        ValueError: If it does, or if it runs for ten minutes.
    """
    # Without the folder of this file in the path, whose modules aren't meant by it.
    command = [sys.executable, "-P", __file__]
    try:
        ended = subprocess.run(
            command, input=file, capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"The file is damaged: it did not end within {_SECONDS} seconds."
        ) from None
    if ended.returncode:
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(
            "The file is damaged: the process that ran it ended with the code "
            f"{ended.returncode}. {' '.join(last)}"
        )


def run_on_zeros(file: bytes) -> None:
    """Runs a file in all settings, on zeros of the shapes that are in it."""
    for resolver in RESOLVERS:
        for threads in THREADS:
            with contextlib.suppress(Exception):
                interpreter = Interpreter(
                    model_content=file,
                    num_threads=threads,
                    experimental_op_resolver_type=resolver,
                )
                interpreter.allocate_tensors()
                for found in interpreter.get_input_details():
                    zeros = np.zeros(found["shape"], found["dtype"])
                    interpreter.set_tensor(found["index"], zeros)
                interpreter.invoke()


if __name__ == "__main__":
    run_on_zeros(sys.stdin.buffer.read())
