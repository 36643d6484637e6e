"""A place where a champion is published, as the service sees it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rakuten.errors import RakutenError


class AwayError(RakutenError):
    """The place cannot be reached now: what is served goes on, and it is asked again."""


@dataclass(frozen=True)
class Found:
    """A publication; no other one has its key."""

    version: str
    key: str
    where: str  # for people


class Place(Protocol):
    """Its methods wait for disks and networks; one thread calls them."""

    def newest(self) -> Found:
        """
        Raises:
            AwayError: not to be reached now.
            RakutenError: nothing is published there, or what says so is damaged.
        """

    def bring(self, found: Found) -> Path:
        """The folder of the bundle that was found, on this machine; whoever loads it checks it.

        Raises:
            AwayError: not to be reached now.
            RakutenError: it is not what it is said to be.
        """

    def remember(self, found: Found) -> None:
        """It answers now."""

    def last(self) -> Found | None:
        """What was remembered last, also by an earlier process: for a start while the place is away."""
