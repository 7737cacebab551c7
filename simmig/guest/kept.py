"""A machine that stands: taken over to be kept, or loaded to be sent on. It may be any machine, of any maker.

On disk it is a directory: `machine.json` (name, blocks), a sparse file a RAM block, and `state`, what followed
RAM in the stream, as it came.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.machine import arrange
from simmig.guest.vcpu import PAGE_WORDS, Words

MANIFEST = "machine.json"
_STATE = "state"
_FORMAT = 1
_BLOCK_ALIGNMENT_BYTES = 256 << 10
_PIECE_PAGES = 16


class KeptMachineError(Exception):
    """A directory does not hold a machine; the text says which file, and why not."""


class KeptGuest:
    """A `Guest` (simmig.guest.api) that never runs: `running` says that this side has it.

    As a destination it admits any machine, unless told which `expected` blocks (name, bytes) it must have, and
    `keep`, if any, is called with it instead of resuming it. As a source it comes from `load`.
    """

    def __init__(
        self, expected: Sequence[tuple[str, int]] | None = None, keep: Callable[[KeptGuest], None] | None = None
    ) -> None:
        self.machine_name = ""
        self.running = False
        self.late_ns = 0
        self.state: bytes | bytearray = b""
        self.pages: Words = np.empty((0, PAGE_WORDS), dtype=np.uint64)
        self._expected = expected
        self._keep = keep
        self._blocks: list[RamBlock] = []
        self._map: mmap.mmap | None = None

    @property
    def memory(self) -> KeptGuest:
        """What has its `pages`."""
        return self

    @property
    def blocks(self) -> Sequence[RamBlock]:
        """RAM blocks, in the order of whoever named them first."""
        return self._blocks

    def admit(self, machine_name: str, blocks: Sequence[tuple[str, int]]) -> Sequence[RamBlock]:
        """Take memory for these blocks. ValueError for blocks not expected, or more than this host has memory."""
        names = [name for name, _ in blocks]
        if len(set(names)) < len(names):
            raise ValueError("the source names a RAM block twice")
        total = sum(length_bytes for _, length_bytes in blocks)
        here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if total > here:
            raise ValueError(f"the source has {total} bytes of RAM, this host {here}")
        if self._expected is not None:
            arrange(_lay_out(self._expected, 0), blocks)
        self.machine_name = machine_name
        try:
            self._map = mmap.mmap(-1, total)
        except (OSError, ValueError) as error:
            raise ValueError(f"no memory for {total} bytes of RAM: {error}") from error
        self.pages = np.frombuffer(self._map, dtype=np.uint64).reshape(-1, PAGE_WORDS)
        self._blocks = _lay_out(blocks, int(self.pages.ctypes.data))
        return self._blocks

    def ballooned(self) -> NDArray[np.bool_]:
        """No page that anybody knows of."""
        return np.zeros(len(self.pages), dtype=np.bool_)

    def start_dirty_log(self) -> None:
        """Nobody writes."""

    def stop_dirty_log(self) -> None:
        """Nobody writes."""

    def sync_dirty(self, bitmap: NDArray[np.bool_]) -> int:
        """Nothing was written."""
        return 0

    def is_zero(self, first_page: int, count: int) -> bool:
        """Whether these pages are all zero."""
        return not self.pages[first_page, 0] and not self.pages[first_page : first_page + count].any()

    def zero(self, first_page: int, count: int) -> None:
        """Make these pages all zero; those that are so already stay untouched, and take no memory."""
        if not self.is_zero(first_page, count):
            self.pages[first_page : first_page + count] = 0

    async def stop(self) -> None:
        """It stands."""
        self.running = False

    async def resume(self) -> None:
        """It is this side's: as a destination, keep it. Raises OSError when it cannot be written down."""
        if self._keep is not None and not self.running:
            self._keep(self)
        self.running = True

    async def save_device_state(self) -> bytes:
        """The state, as it came."""
        return bytes(self.state)

    async def load_device_state(self, state: bytes | bytearray) -> bool:
        """Take it as it comes: what is in it only a machine of that name can tell."""
        self.state = state
        return True

    def save(self, directory: Path) -> None:
        """Write it down, all of it on disk before the manifest is there. Raises OSError."""
        rows = []
        for index, block in enumerate(self._blocks):
            name = f"ram-{index}"
            _save_block(directory / name, self.pages[block.first_page : block.first_page + block.pages])
            rows.append({"name": block.name, "length_bytes": block.length_bytes, "file": name})
        _write(directory / _STATE, self.state)
        manifest = {"simmig_machine": _FORMAT, "machine": self.machine_name, "blocks": rows, "state": _STATE}
        _write(directory / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")

    def close(self) -> None:
        """Unmap the memory (no region may be registered on it any more)."""
        if self._map is not None:
            del self.pages
            with contextlib.suppress(BufferError):  # an error's traceback still sees it; it goes with that
                self._map.close()
            self._map = None


def load(directory: Path) -> KeptGuest:
    """A machine from where it was kept. Raises KeptMachineError."""
    name, blocks, files, state = read_manifest(directory)
    guest = KeptGuest()
    try:
        guest.admit(name, blocks)
        for block, file in zip(guest.blocks, files, strict=True):
            path = directory / file
            if path.stat().st_size != block.length_bytes:
                raise KeptMachineError(
                    f"{path}: {path.stat().st_size} bytes, {MANIFEST} says {block.length_bytes}"
                )
            _load_block(path, guest.pages[block.first_page : block.first_page + block.pages])
        guest.state = (directory / state).read_bytes()
    except BaseException as error:
        guest.close()
        if isinstance(error, ValueError):
            raise KeptMachineError(f"{directory / MANIFEST}: {error}") from error
        if isinstance(error, OSError):
            raise KeptMachineError(f"{error.filename}: {error.strerror}") from error
        raise
    guest.running = True
    return guest


def read_manifest(directory: Path) -> tuple[str, list[tuple[str, int]], list[str], str]:
    """The machine's name, its blocks (name, bytes), their files, and the file of its state; KeptMachineError."""
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if manifest["simmig_machine"] != _FORMAT:
            raise KeptMachineError(f"{path}: written by another version of simmig")
        blocks = [(str(row["name"]), int(row["length_bytes"])) for row in manifest["blocks"]]
        files = [Path(str(row["file"])).name for row in manifest["blocks"]]
        if not blocks or any(length <= 0 or length % PAGE_BYTES for _, length in blocks):
            raise KeptMachineError(f"{path}: RAM blocks {blocks} are none")
        return str(manifest["machine"]), blocks, files, Path(str(manifest["state"])).name
    except OSError as error:
        raise KeptMachineError(
            f"{path}: {error.strerror}; a machine is what `simmig receive --save DIR` leaves"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise KeptMachineError(f"{path}: not the description of a machine ({error!r})") from error


def _lay_out(blocks: Sequence[tuple[str, int]], address: int) -> list[RamBlock]:
    laid_out = []
    first_page = offset_bytes = 0
    for name, length_bytes in blocks:
        at = address + first_page * PAGE_BYTES
        laid_out.append(RamBlock(name, at, length_bytes, offset_bytes, first_page))
        first_page += length_bytes // PAGE_BYTES
        offset_bytes += -(-length_bytes // _BLOCK_ALIGNMENT_BYTES) * _BLOCK_ALIGNMENT_BYTES
    return laid_out


def _save_block(path: Path, pages: Words) -> None:
    """Zero pages become holes."""
    with path.open("wb", buffering=0) as file:
        os.ftruncate(file.fileno(), pages.nbytes)
        for first in range(0, len(pages), _PIECE_PAGES):
            piece = pages[first : first + _PIECE_PAGES]
            if piece.any():
                file.seek(first * PAGE_BYTES)
                left = memoryview(np.ascontiguousarray(piece).data).cast("B")
                while left:
                    left = left[file.write(left) :]
        os.fsync(file.fileno())


def _load_block(path: Path, pages: Words) -> None:
    """Holes stay untouched memory."""
    with path.open("rb", buffering=0) as file:
        at = 0
        while at < pages.nbytes:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # no data behind this place
                return
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            file.seek(at)
            view = memoryview(pages.data).cast("B")[at:end]
            while view:
                count = file.readinto(view)
                if not count:
                    raise KeptMachineError(f"{path}: ends at {at} bytes")
                at, view = at + count, view[count:]


def _write(path: Path, data: bytes | bytearray) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
