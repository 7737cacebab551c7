"""Runs rdma-core's own tests of pyverbs, unmodified, on simulated devices, and judges what they say.

    python -m tests.verbs.pyverbs.rdma_core [--profile PROFILE] [--tests DIRECTORY] [MODULE ...]

Without a directory they are fetched from Debian's package (`apt-get download python3-pyverbs`) into build/. Exit
status 1 when one fails or errs, or when one is skipped for a reason that is not in `EXCUSES`: what a device lacks.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build" / "rdma-core"
MODULES = (
    *("addr", "atomic", "cq", "cq_events", "cqex", "device", "fork", "mr", "odp", "parent_domain", "pd", "qp"),
    *("qpex", "rdmacm", "relaxed_ordering", "shared_pd", "srq", "tag_matching"),
)
EXCUSES = (
    r"Create XRCD is not supported",
    r"ODP is not supported - No ODP caps",
    r"Device memory is not supported",
    r"(Device /dev/dri/renderD\d+ is not present|Allocating dmabuf is not supported)",
    r"Create Raw Packet QP .*is not supported",
    r"(Tag matching is not supported|Extended CQ is not supported)",
    r"(Extended QP|Create player with rc_atomic_write|Create player with .*) is not supported",
    r"(Huge pages of size 2M is not supported|There are no huge pages of size 2M)",
    r"Device memory",
    r"(RDMA device with DMABUF|DMAH|MREx|Reg|Operation) .*not supported",
)
"""What a device may lack: each a check of the tests' own."""
_RUNNER = """
import sys, unittest
modules = sys.argv[1:]
sys.argv[1:] = ["-v"]
from args_parser import parser
parser.parse_args()
import tests
unittest.main(module=None, argv=["unittest", "-v", *modules])
"""
_LINE = re.compile(r"\.\.\. (?:.*)(ok|ERROR|FAIL|skipped (['\"].*['\"]))$")


def fetch() -> Path:
    """The directory in which Debian's copy of them is, fetched if need be; raises CalledProcessError."""
    tests = BUILD / "tests"
    if tests.is_dir():
        return BUILD
    unpacked = BUILD / "unpacked"
    shutil.rmtree(BUILD, ignore_errors=True)
    unpacked.mkdir(parents=True)
    subprocess.run(["apt-get", "-qq", "download", "python3-pyverbs"], cwd=BUILD, check=True)
    package = next(BUILD.glob("python3-pyverbs_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)
    found = unpacked / "usr/share/doc/rdma-core/tests"
    for path in sorted(found.glob("*.py*")):
        target = unpacked / path.name.removesuffix(".gz")
        data = path.read_bytes()
        target.write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
    tests.mkdir()
    for path in unpacked.glob("*.py"):
        path.rename(tests / path.name)
    return BUILD


def run(directory: Path, profile: str, modules: list[str]) -> tuple[Counter[str], list[str]]:
    """What the tests said (ok, skipped, ERROR, FAIL), and lines worth showing."""
    names = [f"tests.test_{name}" for name in modules if (directory / "tests" / f"test_{name}.py").exists()]
    command = [sys.executable, "-m", "simmig.cli", "pyverbs", "--profile", profile, "--"]
    command += [
        "env",
        f"EXTRA={directory / 'tests'}",
        sys.executable,
        "-c",
        f"import os, sys\n{_PATHS}{_RUNNER}",
        *names,
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    counts: Counter[str] = Counter()
    worth: list[str] = []
    for line in done.stderr.splitlines():
        match = _LINE.search(line)
        if match is None:
            continue
        word = match.group(1).split()[0]
        counts[word] += 1
        excused = word == "skipped" and any(re.search(excuse, match.group(2)) for excuse in EXCUSES)
        if word == "skipped" and not excused:
            counts["unexcused"] += 1
        if word != "ok":
            worth.append(line)
    total = re.search(r"^Ran (\d+) tests", done.stderr, re.M)
    if total is None:
        worth.append(done.stderr)
        counts["ERROR"] += 1
    elif re.search(r"^FAILED", done.stderr, re.M):
        counts["FAILED"] += 1
        worth.append(done.stderr[done.stderr.find("=" * 70) :])
    return counts, worth


_PATHS = "sys.path[:0] = [os.getcwd(), os.environ['EXTRA']]\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profile", default="ideal")
    parser.add_argument("--tests", type=Path, help="the directory that has tests/ in it")
    parser.add_argument("modules", nargs="*", default=[*MODULES])
    args = parser.parse_args()
    try:
        directory = args.tests or fetch()
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        print(f"rdma-core's tests cannot be had: {error}", file=sys.stderr)
        return 1
    counts, worth = run(directory.resolve(), args.profile, args.modules)
    print("\n".join(worth))
    print(f"{args.profile}: " + ", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    return int(any(counts[word] for word in ("ERROR", "FAIL", "FAILED", "unexcused")))


if __name__ == "__main__":
    sys.exit(main())
