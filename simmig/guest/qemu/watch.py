"""Which of a QEMU's pages were written: the kernel's soft-dirty bits, read from outside.

A page's bit in /proc/PID/pagemap is set when a process writes the page, also from the kernel on its behalf; 4
written to /proc/PID/clear_refs clears all of a process. Reading and clearing are two steps, so all threads stand
still around them (Documentation/admin-guide/mm/soft-dirty.rst).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from simmig.guest.api import PAGE_BYTES
from simmig.guest.qemu import pagemap
from simmig.guest.qemu.pagemap import Flags
from simmig.guest.qemu.process import Process

_CLEAR = b"4"


class SoftDirty:
    """The writes to some stretches of a process's memory, each (address, pages); flags go through all of them.

    `freeze` and `thaw` are called around a read-and-clear.
    """

    def __init__(
        self,
        process: Process,
        stretches: Sequence[tuple[int, int]],
        freeze: Callable[[], None],
        thaw: Callable[[], None],
    ) -> None:
        self._stretches = stretches
        self._freeze = freeze
        self._thaw = thaw
        self._pagemap = os.open(f"/proc/{process.pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._clear_refs = os.open(f"/proc/{process.pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._marked = pagemap.best(self._pagemap, stretches[0][0])

    def start(self) -> None:
        """Forget all writes so far."""
        os.pwrite(self._clear_refs, _CLEAR, 0)

    def take(self, meanwhile: Callable[[Flags], None]) -> Flags:
        """The pages written since the last time. `meanwhile` sees them while nothing can be written."""
        self._freeze()
        try:
            written = self.look()
            meanwhile(written)
            os.pwrite(self._clear_refs, _CLEAR, 0)
        finally:
            self._thaw()
        return written

    def look(self) -> Flags:
        """The pages written since the last `take`, which stay so."""
        return np.concatenate([self._marked(self._pagemap, *stretch) for stretch in self._stretches])

    def close(self) -> None:
        """Stop watching."""
        os.close(self._pagemap)
        os.close(self._clear_refs)


def kernel_knows() -> bool:
    """Whether the kernel has soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), tried on a page of this process."""
    page = mmap.mmap(-1, PAGE_BYTES)
    address = np.frombuffer(page, dtype=np.uint8).ctypes.data
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        Path("/proc/self/clear_refs").write_bytes(_CLEAR)
        page[0] = 1
        return bool(pagemap.read(file.fileno(), address, 1)[0])
