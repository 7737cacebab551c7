"""A file that can be read while events wait: what `CompChannel.fd` gives to select and poll."""

from __future__ import annotations

import os
import tempfile


class Wakeup:
    """A named pipe with a byte in it while there is something to take."""

    def __init__(self, directory: str | None) -> None:
        self._directory = tempfile.mkdtemp(prefix="events", dir=directory)
        self.path = os.path.join(self._directory, "fd")
        os.mkfifo(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._told = False

    def tell(self, waits: bool) -> None:
        """Whether something is there."""
        if waits and not self._told:
            os.write(self._descriptor, b"!")
        elif self._told and not waits:
            os.read(self._descriptor, 1)
        self._told = waits

    def close(self) -> None:
        """Remove it; who has it open hears of nothing more."""
        os.close(self._descriptor)
        os.unlink(self.path)
        os.rmdir(self._directory)
