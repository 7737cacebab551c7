"""How the lab says what it is doing."""

from __future__ import annotations

from typing import Protocol


class Tell(Protocol):
    """Shows a line: progress, for whoever watches; what is `urgent` is for whoever reads a log, too."""

    def __call__(self, text: str, *, urgent: bool = False) -> None:
        """Show `text`."""
