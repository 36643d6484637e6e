"""Two readers of a command's output: people on stderr, shells on stdout."""

import sys

from rich.console import Console


def people() -> Console:
    """What people read. stdout is left to the one line that a shell wants: where the result is."""
    return Console(file=sys.stderr, highlight=False)
