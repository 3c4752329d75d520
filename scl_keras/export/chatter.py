"""Keeps what the converter prints away from the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_STDERR = 2


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Holds back what is written to the process's standard error meanwhile.

    The converter is written in C++, and prints some lines for each file that no log
    level ends. If it fails, they are printed after all.
    """
    try:
        terminal = os.dup(_STDERR)
    except OSError:  # a process without one
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, _STDERR)
            os.close(terminal)
