"""The commands of README, docs and examples work as they stand: each page's in order, with the repository's files.

What is not run is named with its reason in `NOT_RUN`; `python -m tests.cli.test_commands` prints both lists.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.documented import PAGES, ROOT, Piece, is_whole, pieces

PROGRAM = """
import pyverbs.device as d

names = [device.name for device in d.get_device_list()]
assert len(names) == 2, names
"""
TESTS = """
def test_mine(pyverbs_devices):
    left, right = pyverbs_devices(2, profile="rxe")
    from pyverbs.device import Context

    with Context(name=left) as context:
        assert context.num_comp_vectors > 0 and left != right
"""
FILES = {
    name: PROGRAM if not name.startswith("tests/") else TESTS
    for name in ("my_program.py", "server.py", "client.py", "tests/test_mine.py")
}
"""What the pages take the reader to have: programs and tests that use pyverbs."""

DEVICES = "needs two RDMA devices, or the lab: tests/device and tests/lab"
QEMU = "needs a running QEMU and RDMA devices: tests/qemu"
INSTALLS = "installs from a network, as .ci/run does"
ROOT_ONLY = "changes this host, as root"
MINUTES = "takes minutes"
ELSEWHERE = "run by .ci/run itself"
NOT_RUN = {
    "make demo": ELSEWHERE,
    "make test": ELSEWHERE,
    "make lint": ELSEWHERE,
    "make docs": ELSEWHERE,
    "make rdma-core-tests": ELSEWHERE,
    "make test-device": ELSEWHERE,
    "make bench": MINUTES,
    "make pictures": MINUTES,
    "make test-rules": DEVICES,
    "make test-rules STACKS=6.12/13": DEVICES,
    "make test-device KERNEL=6.12": DEVICES,
    "make test-device TESTS=tests/device/test_link_faults.py": DEVICES,
    'make test-device TESTS="tests/device/test_rules_memory.py -k device"': DEVICES,
    ". .venv/bin/activate": "the tests run in the environment that it would bring",
    "pip install '.[plot,sweep]'": INSTALLS,
    "python3 -m venv .venv && .venv/bin/pip install '.[test]'": INSTALLS,
    ".venv/bin/python -m pytest": "run by .ci/run, and by tests/verify in simulation",
    ".venv/bin/python -m pytest --simmig-lab": ELSEWHERE,
    ".venv/bin/python -m pytest --simmig-devices mlx5_0,mlx5_1": DEVICES,
    "simmig run quickstart --policy half-budget,most='8 MiB'": "needs the example project: .ci/run installs it",
    "simmig lab -- simmig run lab-small --backend rdma": DEVICES,
    "simmig lab -- simmig verify examples/ring_rpc.py --devices rxe0,rxe1": DEVICES,
    "simmig lab install --kernel 6.12 --qemu 10.0 --debian 13": INSTALLS,
    "simmig lab install": INSTALLS,
    "simmig lab check": "its status tells whether the lab is there: tests/lab",
    "simmig lab shell": "waits for somebody to type",
    "simmig calibrate --out lab.toml": DEVICES,
    "simmig observe --qemu /run/vm.qmp --for '10 s' --out vm.csv": QEMU,
    "simmig lab --kernel 6.12 --debian 13 -- /usr/bin/python3 -c "
    "'import pyverbs.device; print(pyverbs.device.get_device_list())'": DEVICES,
    "SIMMIG_TEST_DEVICES=mlx5_0,mlx5_1 SIMMIG_TEST_DEVICE=required "
    "python -m pytest -p no:xdist tests/device": DEVICES,
    "modprobe rdma_rxe": ROOT_ONLY,
    "rdma link add rxe0 type rxe netdev INTERFACE": ROOT_ONLY,
    "simmig send --qemu /run/vm.qmp --to 10.9.9.2:4444 --policy per-round": QEMU,
    "simmig receive --listen 10.9.9.2:4444 --save vm": QEMU,
    "simmig send --load vm --to 10.9.9.2:5555 --policy per-chunk": QEMU,
    "qemu-system-x86_64 -object memory-backend-memfd,id=pc.ram,size=4G,share=on -machine q35,"
    "memory-backend=pc.ram -m 4G -qmp unix:/run/vm.qmp,server=on,wait=off ...": QEMU,
    "simmig send --qemu /run/vm.qmp --to 10.9.9.2:4444 --policy per-chunk --set migration.pin_all=true": QEMU,
    "simmig compare --qemu /run/vm.qmp --to 10.9.9.2:4444 --policy per-chunk --policy at-switch "
    "--destination-qemu /run/there.qmp": QEMU,
    "simmig lab --timeout '60 min' -- python docs/live_vm.py linux": QEMU,
    "python docs/fidelity.py": DEVICES,
    "python docs/published.py": "takes minutes; tests/experiment holds its scenarios to the table",
    "python docs/predictions.py --write": "takes minutes, and writes the page",
    "python docs/reference.py": "writes the page; tests/experiment/test_reference.py compares",
    "python -m tests.verbs.deviations": "writes the page; tests/verbs compares",
    "python benchmarks/sweep.py --points 10000": MINUTES,
    "simmig advise quickstart --downtime '50 ms' --freedoms": "takes minutes; tests/experiment has smaller ones",
    "simmig sweep drain-question --out out/drain": "takes minutes; `quick` is run in its place",
}
"""Commands that are not run as they stand, and why."""
INSTEAD = {"simmig sweep drain-question --out out/drain": "simmig sweep quick --out out/drain"}
STATUS = {"simmig verify examples/ring_rpc.py:EagerCredit --seeds 500": 1}
"""Exit statuses other than 0: a counterexample is what is promised."""


def commands(page: Path) -> list[Piece]:
    """What of a page is run, or named above; files among it. A command said twice is one."""
    return list(dict.fromkeys(piece for piece in pieces(page) if piece.file or is_whole(piece)))


RUN = {
    str(page.relative_to(ROOT)): [
        piece for piece in commands(page) if piece.text not in NOT_RUN or piece.text in INSTEAD
    ]
    for page in PAGES
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's files, to be read; what is written goes elsewhere.

    simmig is what `make demo` installs: without the compiled engine, which would take a minute to compile.
    """
    here = tmp_path / "simmig"
    (here / "tests").mkdir(parents=True)
    for name in ("benchmarks", "docs", "examples", "models", "notebooks", "scenarios", "tests/data"):
        (here / name).symlink_to(ROOT / name)
    for name, text in FILES.items():
        (here / name).write_text(text)
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text('import sys\nsys.modules["numba"] = None\n')
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(without), str(ROOT), *([known] if known else [])]))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return here


@pytest.mark.parametrize("page", [page for page, run in RUN.items() if run])
def test_commands_do_as_they_stand(page: str, place: Path) -> None:
    for piece in RUN[page]:
        if piece.file:
            (place / piece.file).write_text(piece.text)
            continue
        command = INSTEAD.get(piece.text, piece.text)
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == STATUS.get(command, 0), f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}"


def test_what_is_not_run_is_documented() -> None:
    documented = {piece.text for page in PAGES for piece in commands(page)}
    for named in (NOT_RUN, INSTEAD, STATUS):
        assert not set(named) - documented, "named here, and nowhere in the documentation"
    assert set(INSTEAD) <= set(NOT_RUN)


def test_many_are_run() -> None:
    assert sum(len(run) for run in RUN.values()) > 25


def main() -> None:
    """Print what is run, and what is not and why."""
    for page, run in RUN.items():
        for piece in run:
            print(f"{page}: {piece.file or INSTEAD.get(piece.text, piece.text)}")
    for command, why in NOT_RUN.items():
        print(f"not run: {command} ({why})")


if __name__ == "__main__":
    main()
