"""Tables as plain text, and data as JSON."""

import json
import math
from typing import Any

from rich.console import Console
from rich.table import Table


def as_plain_text(table: Table, width: int = 120) -> str:
    """A table of rich as text without colours, at most so many characters wide."""
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def as_json(data: Any) -> str:
    """Data as JSON, which has no infinity and no NaN: null stands in their place."""
    return json.dumps(_plain(data), indent=2)


def _plain(data):
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
