"""What can go wrong with the lab itself, as opposed to the command that runs in it."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot be used; the text says why, and what to do about it."""
