"""Tables as plain text."""

from rich.console import Console
from rich.table import Table


def as_plain_text(table: Table, width: int = 120) -> str:
    """A table of rich as text without colours, at most so many characters wide."""
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
