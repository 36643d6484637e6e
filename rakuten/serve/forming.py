"""Which of the waiting parts of products make the next batch.

The oldest leads, so that none starves, whichever lane it is in. Those nearest to it in length join while the batch
stays within its padded tokens and its products, and while the padding that one brings costs less than a batch of its
own would. A batch by count alone pads a title of ten tokens to a description of five hundred.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """Read alone."""

    @property
    def order(self) -> float:
        """Seconds; the smallest goes first."""

    @property
    def group(self) -> object:
        """Only parts of one group can share a batch: of the same model, tower by tower."""

    @property
    def units(self) -> int:
        """Tokens, or 1 for a photo."""


P = TypeVar("P", bound=Waiting)


def form_batch(
    waiting: Sequence[P],
    *,
    most_parts: int,
    most_units: Callable[[P], float],
    free_units: Callable[[P], float],
) -> list[P]:
    """The next batch out of `waiting`, the oldest first; its lead is in it whatever its size.

    Args:
        most_units: padded units of a batch that the given part leads.
        free_units: units of padding that cost as much as one more batch.
    """
    lead = min(waiting, key=lambda part: part.order)
    like = sorted(
        (part for part in waiting if part.group == lead.group), key=lambda part: (part.units, part.order)
    )
    low = high = next(at for at, part in enumerate(like) if part is lead)  # like[low : high + 1] is the batch
    budget, free = most_units(lead), free_units(lead)
    while high - low + 1 < most_parts:
        size = high - low + 1
        longest = like[high].units
        shorter, longer = low > 0, high + 1 < len(like)
        # Padding that a neighbour brings: its own, or everybody's.
        below = longest - like[low - 1].units if shorter else float("inf")
        above = (like[high + 1].units - longest) * size if longer else float("inf")
        padding, is_longer = min((below, False), (above, True))
        padded = (size + 1) * (like[high + 1].units if is_longer else longest) if shorter or longer else 0
        if padding > free or not (shorter or longer) or padded > budget:
            break
        low, high = (low, high + 1) if is_longer else (low - 1, high)
    return sorted(like[low : high + 1], key=lambda part: part.order)
