"""A machine that is kept and loaded again is the same, to the byte; what is no machine is refused by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simmig.experiment.errors import InputError
from simmig.experiment.scenario import machines
from simmig.guest import kept
from simmig.guest.api import PAGE_BYTES
from simmig.guest.kept import KeptGuest, KeptMachineError

BLOCKS = [("pc.ram", 600 * PAGE_BYTES), ("pc.bios", 3 * PAGE_BYTES)]
STATE = b"\x04state\x7e\0\0\0\x03\0\x06\0\0\0\x02{}"


def taken_over(keep: Callable[[KeptGuest], None] | None = None) -> KeptGuest:
    guest = KeptGuest(keep=keep)
    guest.admit("pc-i440fx-7.2", BLOCKS)
    guest.pages[5] = 1
    guest.pages[599] = np.arange(512)
    guest.pages[602] = 3
    assert asyncio.run(guest.load_device_state(bytearray(STATE)))
    return guest


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    guest = taken_over(lambda machine: machine.save(tmp_path))
    assert not guest.running
    asyncio.run(guest.resume())
    assert guest.running
    back = kept.load(tmp_path)
    assert np.array_equal(back.pages, guest.pages)
    assert (back.machine_name, back.blocks[1].name, back.blocks[1].first_page) == ("pc-i440fx-7.2", "pc.bios", 600)
    assert asyncio.run(back.save_device_state()) == STATE
    assert (tmp_path / "ram-0").stat().st_blocks * 512 < 100 * PAGE_BYTES  # holes where pages are zero
    for machine in (guest, back):
        machine.close()


def test_what_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    guest = taken_over(lambda machine: machine.save(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        asyncio.run(guest.resume())
    assert not guest.running
    guest.close()


@pytest.mark.parametrize(
    ("blocks", "complaint"),
    [
        ([("a", PAGE_BYTES), ("a", PAGE_BYTES)], "twice"),
        ([("a", 1 << 60)], "this host"),
        (
            [("pc.ram", PAGE_BYTES), ("new", PAGE_BYTES)],
            "has 4096 .*'new' is unknown .*'pc.bios' is here alone",
        ),
    ],
)
def test_blocks_that_cannot_be(blocks: list[tuple[str, int]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        KeptGuest(BLOCKS).admit("pc", blocks)


def spoil_manifest(directory: Path, **changes: object) -> None:
    path = directory / kept.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda d: (d / kept.MANIFEST).unlink(), "machine.json: No such file.*--save DIR"),
        (lambda d: (d / kept.MANIFEST).write_text("{"), "not the description"),
        (lambda d: spoil_manifest(d, simmig_machine=2), "another version"),
        (lambda d: spoil_manifest(d, blocks=[{"name": "x", "length_bytes": 7, "file": "ram-0"}]), "are none"),
        (lambda d: (d / "ram-1").write_bytes(b"short"), "ram-1: 5 bytes, machine.json says 12288"),
        (lambda d: (d / "state").unlink(), "state: No such file"),
    ],
)
def test_what_is_no_machine(tmp_path: Path, spoil: Callable[[Path], object], complaint: str) -> None:
    guest = taken_over()
    guest.save(tmp_path)
    guest.close()
    spoil(tmp_path)
    with pytest.raises(KeptMachineError, match=complaint):
        kept.load(tmp_path)
    with pytest.raises(InputError, match="--load"):
        machines.load(tmp_path, None)


def test_a_place_that_is_taken_is_refused_before_anything_comes(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with pytest.raises(InputError, match=r"--save .*never overwritten"), machines.keeping(tmp_path, None):
        pass
    with pytest.raises(InputError, match=r"only migration\.KEY"):
        machines.scenario_for(None, (("guest.memory=4 GiB",), None, None))
