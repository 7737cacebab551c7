"""Migration statistics in the forms that public reports show them in; every number here is made up.

Each text tells of a guest of 2 GiB after 9.5 s: 600 MiB transferred, 40 MiB left, 3 syncs, 250,000 zero pages.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.cli.main import main
from simmig.trace.pasted import clock_of, pieces
from simmig.trace.qemu_sample import Sample
from simmig.trace.qemu_samples import read_samples

MIB = 1 << 20
REPLY = {
    "status": "active",
    "total-time": 9500,
    "setup-time": 7,
    "expected-downtime": 300,
    "blocked": False,
    "blocked-reasons": None,
    "ram": {
        "total": 2 << 30,
        "transferred": 600 * MIB,
        "remaining": 40 * MIB,
        "duplicate": 250000,
        "normal": 152000,
        "dirty-sync-count": 3,
        "dirty-pages-rate": 1700,
        "page-size": 4096,
        "mbps": 530.4,
    },
}


def as_python(value: object, indent: int = 0) -> str:
    """As Python's pprint prints it: an entry a line."""
    if not isinstance(value, dict):
        return repr(value)
    inner = f",\n{' ' * (indent + 1)}".join(
        f"{key!r}: {as_python(each, indent + len(repr(key)) + 3)}" for key, each in sorted(value.items())
    )
    return f"{{{inner}}}"


def behind(prefix: str, text: str) -> str:
    """Each line behind a logger's prefix, whose seconds go on."""
    return "\n".join(prefix.replace("SS", f"{n % 60:02}") + line for n, line in enumerate(text.split("\n")))


PRETTY = json.dumps({"return": REPLY}, indent=4)
HMP_OLD = """(qemu) info migrate
capabilities: xbzrle: off rdma-pin-all: off auto-converge: off
Migration status: active
total time: 9500 milliseconds
expected downtime: 300 milliseconds
setup: 7 milliseconds
transferred ram: 614400 kbytes
throughput: 530.40 mbps
remaining ram: 40960 kbytes
total ram: 2097152 kbytes
duplicate: 250000 pages
skipped: 0 pages
normal: 152000 pages
normal bytes: 608000 kbytes
dirty sync count: 3
page size: 4 kbytes
dirty pages rate: 1700 pages
transferred disk: 11 kbytes
remaining disk: 12 kbytes
total disk: 13 kbytes"""
HMP_10_1 = """Status: active
Time (ms): total=9500, setup=7, exp_down=300
RAM info:
  Throughput (Mbps): 530.40
  Sizes:             pagesize=4 KiB, total=2 GiB
  Transfers:         transferred=600 MiB, remain=40 MiB
    Channels:        precopy=600 MiB, multifd=0 B, postcopy=0 B
    Page Types:      normal=152000, zero=250000
  Page Rates (pps):  transfer=15000, dirty=1700
  Others:            dirty_syncs=3"""
HMP_KB = """Status: active
Time (ms): total=9500, setup=7, exp_down=300
RAM info:
  Throughput (mbps): 530.40
  Sizes (KB): psize=4, total=2097152
    transferred=614400, remain=40960,
    precopy=614400, multifd=0, postcopy=0
  Pages: normal=152000, zero=250000, rate_per_sec=15000
  Others: dirty_syncs=3"""
DOMJOBINFO = """Job type:         Unbounded   \nOperation:        Outgoing migration
Time elapsed:     9500         ms
Time elapsed w/o network: 9400         ms
Data processed:   650.000 MiB
Data remaining:   90.000 MiB
Data total:       3.000 GiB
Memory processed: 600.000 MiB
Memory remaining: 40.000 MiB
Memory total:     2.000 GiB
Memory bandwidth: 63.229 MiB/s
Dirty rate:       1700         pages/s
Page size:        4096         bytes
Iteration:        3
Postcopy requests: 0
Constant pages:   250000
Normal pages:     152000
Normal data:      593.750 MiB
Expected downtime: 300          ms
Setup time:       7            ms
Auto converge throttle: 20 %"""
JOB_STATS = {
    "type": 2,
    "operation": 2,
    "time_elapsed": 9500,
    "setup_time": 7,
    "data_total": 3 << 30,
    "memory_total": 2 << 30,
    "memory_processed": 600 * MIB,
    "memory_remaining": 40 * MIB,
    "memory_constant": 250000,
    "memory_normal": 152000,
    "memory_iteration": 3,
    "memory_dirty_rate": 1700,
    "memory_page_size": 4096,
}
KUBEVIRT = (
    "Migration info for 1f: TimeElapsed:9500ms DataProcessed:650MiB DataRemaining:90MiB DataTotal:3072MiB "
    "MemoryProcessed:600MiB MemoryRemaining:40MiB MemoryTotal:2048MiB MemoryBandwidth:530Mbps "
    "DirtyRate:55.7056Mbps Iteration:3 PostcopyRequests:0 ConstantPages:250000 NormalPages:152000 "
    "NormalData:594MiB ExpectedDowntime:300ms DiskMbps:0"
)
FORMS = {
    "a reply": json.dumps({"return": REPLY, "id": "libvirt-42"}),
    "pretty": PRETTY,
    "qmp-shell": f"(QEMU) query-migrate\n{PRETTY}",
    "Python": repr({"return": REPLY}),
    "Python 2": repr(REPLY).replace("'", "u'").replace("u'u'", "u'").replace("u',", "',").replace("u':", "':"),
    "pprint": as_python(REPLY),
    "avocado": f"2031-02-03 04:05:06,789 qmp L0175 DEBUG| <<< {{'return': {REPLY!r}}}",
    "pprint behind a prefix": behind("  o debug     | vm7>  ", as_python(REPLY)),
    "pprint behind the time": behind("Feb  3 04:05:SS host agent[77]: ", as_python(REPLY)),
    "JSON behind the time": behind("2031-02-03T04:05:SS.123+0000 host agent[77]: reply ", PRETTY).replace(
        "reply  ", " "
    ),
    "libvirt's log": f"2031-02-03 04:05:06.7+0000: 12: info : Line:231 : Line [{json.dumps({'return': REPLY})}]",
    "info migrate": HMP_OLD,
    "info migrate, tabs and CRLF": HMP_OLD.replace(": ", ":\t").replace("\n", "\r\n\t "),
    "info migrate, quoted in a mail": behind("> > ", HMP_OLD),
    "info migrate of 10.1": HMP_10_1,
    "info migrate on the way to it": HMP_KB,
    "info migrate in the journal": behind("Feb  3 04:05:SS host watch[9]: ", HMP_OLD),
    "info migrate of 10.1 in the journal": behind("Feb 03 04:05:SS host watch[9]: ", HMP_10_1),
    "domjobinfo": DOMJOBINFO,
    "domjobinfo behind ts": behind("04:05:SS ", DOMJOBINFO),
    "domjobinfo --rawstats": "Job type: Unbounded\n" + "\n".join(f"  {k}: {v}" for k, v in JOB_STATS.items()),
    "jobStats() of libvirt-python": repr(JOB_STATS),
    "KubeVirt": KUBEVIRT,
    "KubeVirt's log": json.dumps({"component": "virt-launcher", "msg": KUBEVIRT, "level": "info"}),
}
UNTOLD = {
    "info migrate on the way to it": {"dirty_pages_s"},
    "KubeVirt": {"setup_ms"},
    "KubeVirt's log": {"setup_ms"},
}
COMMON = ("total_ms", "setup_ms", "transferred_bytes", "remaining_bytes", "memory_bytes", "syncs")
TOLD = {
    **dict(zip(COMMON, (9500, 7, 600 * MIB, 40 * MIB, 2 << 30, 3), strict=True)),
    "dirty_pages_s": 1700,
    "zero_pages": 250000,
    "normal_pages": 152000,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path: Path, form: str) -> None:
    path = tmp_path / "pasted.txt"
    path.write_text(f"It got stuck, see below:\n\n```\n{FORMS[form]}\n```\nAny idea?\n")
    (sample,) = read_samples(path).samples
    for name, value in TOLD.items():
        expected = -1 if name in UNTOLD.get(form, ()) else value
        assert getattr(sample, name) == expected, name


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_answered_and_says_what_it_does_not_tell(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pasted.txt"
    path.write_text(FORMS[form])
    assert main(["predict", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = told["model"]
    assert model["memory_bytes"] == 2 << 30
    assert model["bandwidth_bytes_s"] == pytest.approx(600 * MIB / 9.493, rel=0.01)
    said = " ".join(model["untold"])
    assert "downtime limit" in said
    if "dirty_pages_s" not in UNTOLD.get(form, ()):
        assert "round of mean length" in said
        assert model["dirtying"]["working_set_pages"] > 1700 * 4
    else:
        assert "whether the guest writes at all" in said


def test_many_pastes_without_a_time_are_answered_from_what_they_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in HMP_OLD.split("\n") if "total time" not in line and "disk" not in line]
    path = tmp_path / "pasted.txt"
    texts = ("\n".join(lines).replace("530.40", rate).replace("614400", sent) for rate, sent in PASTES)
    path.write_text("\n\nand later:\n".join(texts))
    samples = read_samples(path).samples
    assert [each.transferred_bytes >> 10 for each in samples] == [int(sent) for _, sent in PASTES]
    assert not any(each.timed for each in samples)
    assert main(["predict", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Not told: when the samples were taken: the bandwidth is the throughput that they name" in out
    assert f"bandwidth       {540e6 / 8 / MIB:.1f} MiB/s" in out


PASTES = (("530.40", "614400"), ("549.60", "700000"), ("540.00", "800000"))


def test_a_text_without_a_time_has_that_of_the_clock_before_it(tmp_path: Path) -> None:
    lines = [line for line in DOMJOBINFO.split("\n") if not line.startswith(("Time", "Setup"))]
    text = "\n".join(lines)
    path = tmp_path / "watched.txt"
    path.write_text(f"Sat Nov 28 23:59:58 UTC 2026\n{text}\n+ date\nSun Nov 29 00:00:03 UTC 2026\n{text}\n")
    assert [each.total_ms for each in read_samples(path).samples] == [0, 5000]
    path.write_text(f"23:59:58 $ virsh domjobinfo x\n{text}\n00:00:03 $ virsh domjobinfo x\n{text}\n")
    assert [each.total_ms for each in read_samples(path).samples] == [0, 5000]


def test_lines_that_tell_a_sample_each(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    nova = "2031-02-03 04:05:{} 7 INFO nova.virt Migration running for {} secs, memory {}% remaining (bytes "
    nova += "processed={}, remaining={}, total=2147483648); disk 0% remaining (bytes processed=0, total=0).\n"
    path.write_text(nova.format("06", 0, 100, 5, 2147483648) + nova.format("36", 30, 40, 10**9, 8 * 10**8))
    samples = read_samples(path).samples
    assert [(each.total_ms, each.transferred_bytes, each.remaining_bytes) for each in samples] == [
        (0, 5, 1 << 31),
        (30000, 10**9, 8 * 10**8),
    ]
    path.write_text(
        "2031-02-03 04:05:06 migration active, transferred 1.5 GiB of 32.0 GiB VM-state, 120.5 MiB/s\n"
        "2031-02-03 04:05:16 migration active, transferred 2.5 GiB of 32.0 GiB VM-state, 99.5 MiB/s\n"
    )
    samples = read_samples(path).samples
    assert [(each.total_ms, each.transferred_bytes, each.memory_bytes) for each in samples] == [
        (0, 3 << 29, 32 << 30),
        (10000, 5 << 29, 32 << 30),
    ]
    path.write_text("Feb 03 04:05:06 migration status: active (transferred 77, remaining 88), total 99)\n")
    (sample,) = read_samples(path).samples
    assert (sample.transferred_bytes, sample.remaining_bytes, sample.memory_bytes) == (77, 88, 99)


def test_two_migrations_in_a_file_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short one that is over, polled twice, and a long one: the long one is taken, and it is said."""
    short = [{**REPLY, "status": "completed", "total-time": 3000, "downtime": 9}] * 2
    long = [{**REPLY, "total-time": t, "ram": {**RAM, "transferred": t * 60000}} for t in (100, 5000, 9000)]
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (*short, *long)))
    sampled = read_samples(path)
    assert [each.total_ms for each in sampled.samples] == [100, 5000, 9000]
    assert sampled.other_migrations == 1
    assert main(["predict", str(path)]) == 0
    assert "The file tells of 1 more" in capsys.readouterr().out


RAM: dict[str, object] = dict(REPLY["ram"])  # type: ignore[call-overload]


def test_what_a_completed_migration_sent_twice_tells_of_its_guest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One paste after the end, as in most reports: 524288 pages, 20000 of them sent again."""
    done = {"dirty-sync-count": 4, "remaining": 0, "duplicate": 144288, "normal": 400000, "dirty-pages-rate": 0}
    reply = {**REPLY, "status": "completed", "downtime": 55, "ram": {**RAM, **done}}
    path = tmp_path / "done.json"
    path.write_text(json.dumps(reply))
    assert main(["predict", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    dirtying = told["model"]["dirtying"]
    seconds, size, rate = 9.493, dirtying["working_set_pages"], dirtying["pages_s"]
    assert size >= 20000
    assert size * (1 - 2.718281828 ** (-rate * seconds / size)) == pytest.approx(20000, rel=0.03)
    assert "sent again" in " ".join(told["model"]["untold"])


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("2031-02-03T04:05:06.5Z x", 1927857906.5),
        ("Jan  1 00:00:09 host x", 946684809),
        ("[04:05:06,25] x", 14706.25),
        ("1927858506.125 x", 1927858506.125),
        ("2031-13-03 04:05:06", 14706),
        ("Foo 41 nothing", -1),
        ("ratio 1:05:06:07", -1),
    ],
)
def test_clocks(line: str, seconds: float) -> None:
    assert clock_of(line) == pytest.approx(seconds, abs=1e-6)


@given(st.text(alphabet="{}'\"\\,:[] \nua1N", max_size=200))
def test_whatever_is_pasted_nothing_is_raised_and_no_line_is_lost(text: str) -> None:
    found = list(pieces(text))
    if all(piece.document is None for piece in found):
        assert "\n".join(piece.text for piece in found).rstrip("\n") == text.rstrip("\n")


def test_a_file_of_open_braces_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "program.c"
    path.write_text("if (x) {\n" * 200_000 + HMP_OLD)
    (sample,) = read_samples(path).samples
    assert sample.total_ms == 9500


def test_samples_in_any_order_come_in_order_of_time(tmp_path: Path) -> None:
    times = list(range(100, 2100, 100))
    lines = [{**REPLY, "total-time": t, "ram": {**RAM, "transferred": t * 1000}} for t in times]
    random.Random(3).shuffle(times)
    path = tmp_path / "in-order.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [each.total_ms for each in read_samples(path).samples] == sorted(times)
    assert isinstance(read_samples(path).samples[0], Sample)
