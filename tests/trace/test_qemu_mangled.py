"""Logs as they are: whatever stands around or between the events, the recording is the same."""

from __future__ import annotations

import gzip
import lzma
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from simmig.trace import compressed
from simmig.trace.qemu_attempts import read_log, read_recording
from simmig.trace.qemu_log import LogError
from simmig.trace.qemu_recording import Recording

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA = Path(__file__).parents[1] / "data"
PLAIN = gzip.decompress((DATA / "qemu-7.2-rxe" / "net60-dirty6-96-pinall.src.trace.gz").read_bytes())
DYNAMIC = gzip.decompress((DATA / "qemu-10.0-rxe" / "q10-net200-dirty6-96-dynamic-bw4.src.trace.gz").read_bytes())
FAILED = b"439@1795371769.990000:migrate_set_state new state failed\n"
LINES = PLAIN.splitlines(keepends=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return read(tmp_path_factory.mktemp("whole"), PLAIN)


def read(directory: Path, data: bytes) -> Recording:
    path = directory / "src.trace"
    path.write_bytes(data)
    return read_recording(path)


def prefixed(prefix: bytes) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(prefix + line for line in data.splitlines(keepends=True))


def after_every(count: int, text: bytes) -> Callable[[bytes], bytes]:
    def mangle(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        return b"".join(line + text * (number % count == 7) for number, line in enumerate(lines))

    return mangle


def threads_past_each_other(data: bytes) -> bytes:
    """Every 50th line comes two lines too late, as another thread's."""
    lines = data.splitlines(keepends=True)
    for index in range(20, len(lines) - 3, 50):
        late = b"9" + lines.pop(index)
        lines.insert(index + 2, late)
    return b"".join(lines)


def other_events(data: bytes) -> bytes:
    """Nine lines in ten are of an event that nobody needs, at the time of the line above."""
    lines = []
    for line in data.splitlines(keepends=True):
        stamp = line.split(b":")[0]
        lines += [line, *[stamp + b":migration_transferred_bytes qemu_file 52 multifd 0 RDMA 1048576\n"] * 9]
    return b"".join(lines)


ROUND_ABOUT: dict[str, Callable[[bytes], bytes]] = {
    "trailing blanks lost": lambda data: re.sub(rb" +\n", b"\n", data),
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "no last newline": lambda data: data.rstrip(b"\n"),
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "journald": prefixed(b"Nov 28 09:40:11 host7 qemu-system-x86_64[426]: "),
    "syslog": prefixed(b"<30>1 2026-11-28T09:40:11.123456+01:00 host7 qemu 426 - - "),
    "ts": prefixed(b"2026-11-28 09:40:11.123456 "),
    "ts with microseconds of its own": prefixed(b"1795371769.604375 "),
    "prompts": prefixed(b"(qemu) "),
    "warnings": after_every(50, b"qemu-system-x86_64: warning: TCG doesn't support requested feature\n"),
    "QEMU's own lines": after_every(300, b"source_resolve_host RDMA Device opened: kernel name rxe0\n"),
    "empty lines": after_every(10, b"\n \n"),
    "garbage": after_every(97, bytes(range(128, 256)) + b"\0\n"),
    "a shell's colours": after_every(90, b"\x1b[32muser@host\x1b[0m:~$ \n"),
    "a warning on the same line": lambda data: data.replace(b"\n426@", b"\nwarning: slow 426@"),
    "other events": other_events,
    "threads past each other": threads_past_each_other,
    "a block's name with blanks": lambda data: data.replace(b"'pc.ram'", b"'my ram: 1, 2'"),
    "a block's name in another script": lambda data: data.replace(b"'pc.ram'", "'память 内存'".encode()),
    "a block's name in no encoding": lambda data: data.replace(b"'pc.ram'", b"'\xff\xfe'"),
    "a failed attempt before": lambda data: (
        (b"".join(data.splitlines(keepends=True)[:15]) + FAILED).replace(b"@17953717", b"@17953716") + data
    ),
    "a cancelled attempt before": lambda data: (
        (
            b"".join(data.splitlines(keepends=True)[:500])
            + b"439@1795371790.990000:migrate_set_state new state cancelling\n"
            + b"439@1795371790.990001:migrate_set_state new state cancelled\n"
        ).replace(b"@17953717", b"@17953716")
        + data
    ),
    "a failed attempt after": lambda data: (
        data + (b"".join(data.splitlines(keepends=True)[:15]) + FAILED).replace(b"@17953717", b"@17953718")
    ),
}


@pytest.mark.parametrize("how", ROUND_ABOUT)
def test_whatever_stands_around_the_events_the_recording_is_the_same(
    tmp_path: Path, whole: Recording, how: str
) -> None:
    recording = read(tmp_path, ROUND_ABOUT[how](PLAIN))
    for block in recording.blocks:
        assert block.name
    recording.blocks = whole.blocks
    assert recording == whole


def test_a_log_of_newer_names_reads_the_same(tmp_path: Path, whole: Recording) -> None:
    data = PLAIN.replace(b":qemu_rdma_registration_", b":rdma_registration_")
    data = re.sub(
        rb":migrate_pending pending size (\d+) max \d+ \(pre = (\d+) compat=0 post=0\)",
        rb":migrate_pending_estimate estimate pending size \1 (pre = \2 post=0)",
        data,
    )
    assert read(tmp_path, data) == whole


def test_a_clock_that_is_set_back_is_carried_on_and_told(tmp_path: Path) -> None:
    half = len(LINES) // 2
    data = b"".join(LINES[:half]) + b"".join(LINES[half:]).replace(b"@17953717", b"@17953710")
    path = tmp_path / "src.trace"
    path.write_bytes(data)
    logged = read_log(path)
    assert logged.recording.complete
    assert any("the clock goes back" in remark for remark in logged.notes.remarks)


def test_what_is_not_understood_is_counted_and_the_first_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(b"# a log\n" + after_every(100, b"what?\n")(PLAIN))
    notes = read_log(path).notes
    assert notes.strange == 1 + sum(number % 100 == 7 for number in range(len(LINES)))
    assert notes.shown[0] == (1, "# a log")
    assert len(notes.shown) == 5


def test_an_event_of_an_unknown_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(PLAIN.replace(b":migrate_transferred transferred", b":migrate_transferred moved"))
    logged = read_log(path)
    assert "printed by no QEMU from 7.2 to 10.0: line" in logged.version
    assert "migrate_transferred moved" in logged.version
    assert logged.notes.strange == PLAIN.count(b"migrate_transferred")


@pytest.mark.parametrize(("data", "version"), [(PLAIN, "QEMU 7.2"), (DYNAMIC, "QEMU 10.0")])
def test_the_version_is_told_by_its_events(tmp_path: Path, data: bytes, version: str) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(data)
    logged = read_log(path)
    assert logged.version == version
    assert logged.counts_posted is (version != "QEMU 7.2")


@pytest.mark.parametrize("data", [PLAIN, DYNAMIC])
def test_a_log_that_ends_early_says_so_and_keeps_its_first_round(tmp_path: Path, data: bytes) -> None:
    lines = data.splitlines(keepends=True)
    second = [number for number, line in enumerate(lines) if b"bitmap_sync_end" in line][1]
    path = tmp_path / "src.trace"
    path.write_bytes(b"".join(lines[: second + 20]))
    logged = read_log(path)
    whole = read(tmp_path, data)
    assert not logged.recording.complete
    assert any("ends early" in remark for remark in logged.notes.remarks)
    assert logged.recording.first_round_ended_ns == whole.first_round_ended_ns
    assert logged.recording.syncs[1] == whole.syncs[1]


@pytest.mark.parametrize("data", [PLAIN, DYNAMIC])
def test_a_log_that_begins_late_finds_its_blocks_and_its_end(tmp_path: Path, data: bytes) -> None:
    whole = read(tmp_path, data)
    lines = data.splitlines(keepends=True)
    path = tmp_path / "src.trace"
    path.write_bytes(b"".join(lines[200:]))
    logged = read_log(path)
    recording = logged.recording
    assert any("begins late" in remark for remark in logged.notes.remarks)
    assert recording.pages == whole.pages
    assert recording.pin_all == whole.pin_all
    assert recording.ended_ns - recording.decided_ns == whole.ended_ns - whole.decided_ns
    assert [sync.new_pages for sync in recording.syncs[1:]] == [sync.new_pages for sync in whole.syncs[1:]]
    assert recording.runs[-1].pages == whole.runs[-1].pages


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstd.compress])
def test_a_compressed_stream_cut_short_is_read_as_far_as_it_goes(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "src.trace.gz"
    whole = compress(other_events(PLAIN))  # zstd's blocks are long
    path.write_bytes(whole[: len(whole) * 9 // 10])
    logged = read_log(path)
    assert not logged.recording.complete
    assert "the file is cut short: its compressed stream has no end" in logged.notes.remarks


def test_zstd_without_a_library_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "src.trace.zst"
    path.write_bytes(zstd.compress(PLAIN))
    monkeypatch.setattr(compressed, "_zstd", None)
    with pytest.raises(LogError, match=r"src.trace.zst: is compressed with zstd.*zstd -d FILE"):
        read_log(path)


@pytest.mark.parametrize("compress", [lzma.compress, zstd.compress])
def test_a_damaged_stream_is_told(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "src.trace"
    whole = bytearray(compress(PLAIN))
    whole[40:80] = bytes(40)
    path.write_bytes(whole)
    with pytest.raises(LogError, match="its compressed stream is damaged"):
        read_log(path)


def test_no_log_at_all_is_given_up_on_soon(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LogError, match="not a QEMU trace log"):
        read_log(path)
