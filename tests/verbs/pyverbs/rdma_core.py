"""Runs rdma-core's own tests of pyverbs, unmodified, on simulated devices, and judges what they say.

    python -m tests.verbs.pyverbs.rdma_core [--debian 12,13] [--profile ideal,rxe,mlx5] [--list] [MODULE ...]
    python -m tests.verbs.pyverbs.rdma_core --tests DIRECTORY ...

They are fetched from the archive that this system's apt knows, into build/: Debian 12 has version 44 of rdma-core,
Debian 13 version 56. Exit status 1 when a test fails or errs, is skipped for a reason that is not in `EXCUSES`, or
fewer pass than in `AT_LEAST`; 3 when they cannot be had here.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from simmig.lab import debian
from simmig.lab.errors import LabError

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build" / "rdma-core"
SUITES = {"12": "bookworm", "13": "trixie"}
PROFILES = ("ideal", "rxe", "mlx5")
MODULES = (
    *("addr", "atomic", "cq", "cq_events", "cqex", "device", "fork", "mr", "odp", "parent_domain", "pd", "qp"),
    *("qpex", "rdmacm", "relaxed_ordering", "shared_pd", "srq", "tag_matching"),
)
AT_LEAST = {("12", "ideal"): 115}
"""How many must pass, by Debian and profile."""
_NOT_HERE = 3
_EVERYWHERE = (
    r"Create XRCD is not supported",
    r"ODP is not supported - No ODP caps",
    r"Allocating dmabuf is not supported by /dev/dri/renderD128|Device /dev/dri/renderD128 is not present",
    r"Create (RAW|Raw) Packet QP with(out)?( extended)? attrs is not supported",
    r"Huge pages of size 2M is not supported in this platform|There are no huge pages of size 2M allocated",
)
_NO_EXTENSION = r"Extended QP is not supported on this device"  # atomic writes, flushes
_NO_TAGS = r"(Extended CQ|Tag matching) is not supported"
EXCUSES = {
    "ideal": (*_EVERYWHERE, _NO_EXTENSION, _NO_TAGS),
    "rxe": (
        *(*_EVERYWHERE, _NO_EXTENSION, _NO_TAGS),
        r"Device memory is not supported",
        r"Rereg MR is not supported \(Failed to rereg MR: IBV_REREG_MR_ERR_CMD. Errno: 95, .*\)",
        r"Parent Domain is not supported on this device",
        r"Importing a device is not supported",
    ),
    "mlx5": (*_EVERYWHERE, _NO_EXTENSION, _NO_TAGS),
}
"""What the tests themselves find a device to lack, by profile. A real soft-RoCE of Linux 6.1 skips the same."""
_RUNNER = """
import os, sys, unittest
sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "tests")]
modules = sys.argv[1:]
sys.argv[1:] = ["-v"]
from args_parser import parser
parser.parse_args()
import tests
unittest.main(module=None, argv=["unittest", "-v", *modules])
"""
_LINE = re.compile(r"\.\.\. (?:.*)(ok|ERROR|FAIL|skipped (['\"])(.*)['\"])$")


@dataclass
class Outcome:
    """What they said: counts of ok, skipped, ERROR and FAIL; skips by reason; what is wrong, in words."""

    counts: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


def fetch(release: str) -> Path:
    """The directory with that Debian's copy in `tests/`, fetched if need be; raises LabError."""
    place = BUILD / f"debian-{release}"
    if place.is_dir():
        return place
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=BUILD) as directory:
        scratch = Path(directory)
        (scratch / "status").touch()
        with debian.sources(scratch, [SUITES[release]], status=scratch / "status") as apt:
            apt.get("download", "python3-pyverbs", cwd=scratch)
        debian.unpack(next(scratch.glob("python3-pyverbs_*.deb")), scratch / "package")
        made = scratch / "made"
        (made / "tests").mkdir(parents=True)
        for path in (scratch / "package/usr/share/doc/rdma-core/tests").glob("*.py*"):
            data = path.read_bytes()
            target = made / "tests" / path.name.removesuffix(".gz")
            target.write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
        shutil.move(made, place)
    return place


def run(directory: Path, profile: str, modules: list[str]) -> Outcome:
    """Run them on two devices of that profile."""
    began = time.monotonic()
    names = [f"tests.test_{name}" for name in modules if (directory / "tests" / f"test_{name}.py").exists()]
    command = [sys.executable, "-m", "simmig.cli", "pyverbs", "--profile", profile, "--"]
    command += [sys.executable, "-c", _RUNNER, *names]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, env=environment
    ).stderr
    outcome = Outcome(seconds=time.monotonic() - began)
    before = ""
    for line in done.splitlines():
        match = _LINE.search(line)
        if match is not None:
            name = line.partition(" ... ")[0]
            _count(outcome, match, name if "(" in name else f"{before}: {name}", EXCUSES[profile])
        before = line
    if re.search(r"^Ran \d+ tests", done, re.M) is None:
        outcome.wrong.append(done)
    elif re.search(r"^FAILED", done, re.M):
        outcome.wrong.append(done[done.find("=" * 70) :])
    return outcome


def _count(outcome: Outcome, match: re.Match[str], name: str, excuses: tuple[str, ...]) -> None:
    word = match.group(1).split()[0]
    outcome.counts[word] += 1
    if word == "skipped":
        reason = match.group(3)
        outcome.skipped.setdefault(reason, []).append(name)
        if not any(re.fullmatch(excuse, reason) for excuse in excuses):
            outcome.wrong.append(f"{name}: skipped, and this is no excuse: {reason}")
    elif word != "ok":
        outcome.wrong.append(f"{name}: {word}")


def show(title: str, outcome: Outcome, named: bool) -> None:
    """Print it."""
    counts = ", ".join(f"{count} {word}" for word, count in sorted(outcome.counts.items(), reverse=True))
    print(f"{title}: {counts} ({outcome.seconds:.0f} s)")
    for reason, names in sorted(outcome.skipped.items(), key=lambda item: -len(item[1])):
        print(f"  {len(names):3} skipped: {reason}")
        for name in names if named else ():
            print(f"        {name}")
    for words in outcome.wrong:
        print(words)
    sys.stdout.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debian", default=",".join(SUITES), help="whose copies of them, with commas between")
    parser.add_argument("--profile", default=",".join(PROFILES), help="on which devices, with commas between")
    parser.add_argument("--tests", type=Path, help="a directory that has tests/ in it, and not Debian's")
    parser.add_argument("--list", action="store_true", help="name every test that is skipped")
    parser.add_argument("modules", nargs="*", default=[*MODULES])
    args = parser.parse_args()
    for profile in args.profile.split(","):
        if profile not in EXCUSES:
            parser.error(f"--profile {profile}: there are {', '.join(EXCUSES)}")
    try:
        copies = {"": args.tests.resolve()} if args.tests else {r: fetch(r) for r in args.debian.split(",")}
    except LabError as error:
        print(
            f"rdma-core's tests cannot be had from Debian's archive, or this is no Debian: {error}",
            file=sys.stderr,
        )
        return _NOT_HERE
    except KeyError as error:
        parser.error(f"--debian {error.args[0]}: there are {', '.join(SUITES)}")
    whole = set(args.modules) == set(MODULES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = [
            (release, profile, pool.submit(run, copy, profile, args.modules))
            for release, copy in copies.items()
            for profile in args.profile.split(",")
        ]
        bad = False
        for release, profile, future in pending:
            outcome = future.result()
            passed, wanted = outcome.counts["ok"], AT_LEAST.get((release, profile), 1)
            if whole and passed < wanted:
                outcome.wrong.append(f"only {passed} passed, of {wanted} and more that did")
            show(f"{f'Debian {release}, ' if release else ''}{profile}", outcome, args.list)
            bad |= bool(outcome.wrong)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
