"""Python's garbage collector, kept from looking through some thousand imported modules again and again."""

import gc
from typing import Final

_ALLOCATIONS: Final = 10_000  # between two of its rounds, instead of 700 (2,000 in newer Pythons)


def collect_rarely() -> None:
    """Before heavy imports: nothing that they make is garbage, and looking for some takes a fifth of their time."""
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])


def leave_all() -> None:
    """Before the process ends: who takes apart what the modules made, a second's work, does it for nobody."""
    gc.freeze()
