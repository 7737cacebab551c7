"""The process that is a real guest's processor: it writes the guest's memory as its workload says.

It shares the memory with the migration's process and nothing else; the two talk over a pipe. The dirty log is
one 32-bit word a page, the number of the last write to it: only this process writes it, so that nobody ever has to
clear it, and no write can be lost between looking and clearing. A page's word is set after the page: whoever sees
the word unchanged and sends the page may send half a write, but will find the word changed the next time.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from simmig.guest import forking
from simmig.guest.api import PAGE_BYTES
from simmig.guest.machine import Machine
from simmig.guest.workload import BATCH_WRITES

PAGE_WORDS = PAGE_BYTES // 8
STEP_NS = 5_000_000
"""Guest time that passes at once, at most: a stop waits for no more than that much work."""
BACKLOG_NS = 100_000_000
"""A guest that falls behind further than that runs slower than real time from then on."""
_POLL_S = 0.001
_PIECE = 256  # pages written at once
_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads numbers over all bits of a word

Words = NDArray[np.uint64]


class SharedMemory:
    """A guest's memory, its dirty log and its count of writes, mapped from a file descriptor.

    Pages come first, in the machine's order, then a 32-bit word a page (its last write, counted from 1), then the
    number of writes so far.
    """

    def __init__(self, descriptor: int, pages: int) -> None:
        self._map = mmap.mmap(descriptor, self.length_bytes(pages))
        words = np.frombuffer(self._map, dtype=np.uint64, count=pages * PAGE_WORDS)
        self.pages: Words = words.reshape(pages, PAGE_WORDS)
        self.last_writes: NDArray[np.uint32] = np.frombuffer(
            self._map, dtype=np.uint32, count=pages, offset=pages * PAGE_BYTES
        )
        self.writes: Words = np.frombuffer(self._map, dtype=np.uint64, count=1, offset=self._tail(pages))

    @property
    def address(self) -> int:
        """Where the pages are in this process."""
        return int(self.pages.ctypes.data)

    @classmethod
    def length_bytes(cls, pages: int) -> int:
        """How long the file must be."""
        return cls._tail(pages) + 8

    @staticmethod
    def _tail(pages: int) -> int:
        return pages * PAGE_BYTES + -(-pages * 4 // 8) * 8

    def close(self) -> None:
        """Unmap it."""
        del self.pages, self.last_writes, self.writes
        self._map.close()


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where a guest was stopped: time it has run, and how much longer it took for that than it should have."""

    guest_ns: int
    late_ns: int


def contents(numbers: NDArray[np.uint64]) -> Words:
    """A page for each number, unlike those of all other numbers, no word of it zero for numbers below 2^32."""
    first = (numbers << np.uint64(16)) * _ODD
    columns = np.arange(1, PAGE_WORDS + 1, dtype=np.uint64)
    return np.asarray(first[:, np.newaxis] ^ columns, dtype=np.uint64)


def fork(memory: SharedMemory, machine: Machine, pipe: Connection) -> int:
    """Start the processor; returns its process's number. It ends when the other end of `pipe` is closed.

    A fork and no fresh interpreter: it is there at once, and who uses this needs no guarded main module.
    The child leaves alone whatever it inherited: it destroys nothing, closes what it does not need, runs `_live`.
    """
    process = forking.fork()
    if process:
        return process
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the owner's to judge
        own = pipe.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, os.sysconf("SC_OPEN_MAX"))
        _live(memory, machine, pipe)
    finally:
        os._exit(0)


def _live(memory: SharedMemory, machine: Machine, pipe: Connection) -> None:
    """Run from where it is told to, stop when told to, until its owner is gone."""
    try:
        while True:
            pipe.send(_run(memory, machine, pipe, pipe.recv()))
    except (EOFError, OSError):
        return


def _run(memory: SharedMemory, machine: Machine, pipe: Connection, guest_ns: int) -> Stopped:
    """Run from that guest time on until a message comes."""
    workload = machine.workload
    began_ns = time.monotonic_ns() - guest_ns
    late_ns = 0
    writes = workload.writes_by(guest_ns)
    while True:
        now_ns = time.monotonic_ns() - began_ns
        guest_ns = min(now_ns, guest_ns + STEP_NS)
        target = workload.writes_by(guest_ns)
        if target > writes:
            _write(memory, machine, writes, target)
            writes = target
        behind_ns = now_ns - guest_ns
        if behind_ns > BACKLOG_NS:
            began_ns += behind_ns
            late_ns += behind_ns
            behind_ns = 0
        if pipe.poll(0 if behind_ns else _POLL_S):
            pipe.recv()
            return Stopped(guest_ns, late_ns)


def _write(memory: SharedMemory, machine: Machine, done: int, target: int) -> None:
    """Do the writes numbered from `done` up to `target`."""
    first_number = machine.pages + 1  # those below are what the machine begins with
    while done < target:
        index, start = divmod(done, BATCH_WRITES)
        count = min(_PIECE, BATCH_WRITES - start, target - done)
        pages = machine.workload.batch(index)[start : start + count]
        numbers = np.arange(done, done + count, dtype=np.uint64)
        memory.pages[pages] = contents(numbers + np.uint64(first_number))
        memory.last_writes[pages] = (numbers + np.uint64(1)).astype(np.uint32)
        done += count
        memory.writes[0] = done
