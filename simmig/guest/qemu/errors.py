"""What can go wrong with a QEMU that somebody else runs."""

from __future__ import annotations


class QemuError(OSError):
    """QEMU refuses, is gone, or does not answer; the text has QEMU's own words where it gave any."""


class Unsuitable(Exception):
    """This QEMU cannot be migrated as it is; `lacks` says of each reason what it is and what helps."""

    def __init__(self, lacks: list[str]) -> None:
        super().__init__("; ".join(lacks))
        self.lacks = lacks
