"""Bad input: one clear message, exit status 2, no traceback, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from simmig.cli.main import main

MINIMAL = """# A tiny guest.
[guest]
memory = "8 MiB"
[link]
bandwidth = "1 Gbit/s"
latency = "5 us"
"""


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message, of one line or more, each naming simmig; nothing else may be printed."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[guest\n", "scenario.toml: malformed TOML: "),
        (MINIMAL.replace("memory", "memry"), "scenario.toml: guest.memry: unknown key; did you mean 'memory'?"),
        (MINIMAL.replace("8 MiB", "8 Mb"), 'scenario.toml: guest.memory: unknown unit "Mb"; did you mean "MB"?'),
        (MINIMAL.replace("8 MiB", "-8 MiB"), 'scenario.toml: guest.memory: "-8 MiB" is negative'),
        (
            MINIMAL.replace("8 MiB", "5000 B"),
            "scenario.toml: guest.memory: 5000 bytes are no whole number of pages",
        ),
        (MINIMAL + "[policy]\nname = 'nope'\n", "scenario.toml: policy.name: unknown policy 'nope'"),
    ],
)
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_bad_scenario(
    capsys: pytest.CaptureFixture[str], scenario: Path, text: str, told: str, json: tuple[str, ...]
) -> None:
    scenario.write_text(text)
    out = scenario.parent / "out"
    assert told in refused(capsys, "run", scenario, "--out", out, *json)
    assert not out.exists()


def test_a_scenario_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "none.toml: cannot be read" in refused(capsys, "run", tmp_path / "none.toml")


def test_a_directory_that_holds_results(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    out = scenario.parent / "out"
    out.mkdir()
    (out / "result.json").write_text("mine")
    assert "holds results already" in refused(capsys, "run", scenario, "--out", out)
    assert [path.name for path in out.iterdir()] == ["result.json"]
    assert (out / "result.json").read_text() == "mine"


def test_a_file_in_the_place_of_a_directory(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    assert "is a file" in refused(capsys, "run", scenario, "--out", scenario)
    assert "cannot be written" in refused(capsys, "run", scenario, "--out", scenario / "out")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "Missing argument 'SCENARIO'"),
        (["rnu"], "No such command 'rnu'"),
        (["run", "x.toml", "--polcy", "per-chunk"], "No such option"),
        (["run", "x.toml", "--backend", "qemu"], "'qemu' is not"),
        (["run", "x.toml", "--seed", "one"], "'one' is not a valid integer"),
    ],
)
def test_a_bad_command_line(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert told in refused(capsys, *arguments)


def test_a_recording_that_cannot_be_used(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    recording = scenario.parent / "writes.csv"
    scenario.write_text(MINIMAL.replace("[link]", 'workload = { kind = "recorded", file = "writes.csv" }\n[link]'))
    assert "writes.csv: cannot be read: No such file" in refused(capsys, "run", scenario)
    for text, told in (
        ("time,page\n", "a recording's first line is time_ns,first_page,pages (`simmig explain recording`)"),
        ("", "a recording's first line is time_ns,first_page,pages"),
        ("time_ns,first_page,pages\n1,2\n", "line 2: '1,2' is not three whole numbers"),
        (
            "time_ns,first_page,pages\n5,0,9\n",
            "9 pages in 5 ns, repeats for ever, and no guest writes more than 1 TiB/s",
        ),
        ("time_ns,first_page,pages\n5,0,1\n4,0,1\n", "must not go back"),
        ("time_ns,first_page,pages\n5,9999,1\n", "the workload writes page 9999 of 2048"),
    ):
        recording.write_text(text)
        assert told in refused(capsys, "run", scenario)


def test_a_balloon_that_leaves_the_workload_no_room(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    workload = (
        'workload = { kind = "sweep", working_set = "6 MiB", rate = "1 MiB/s" }\nballooned = "3 MiB"\n[link]'
    )
    scenario.write_text(MINIMAL.replace("[link]", workload))
    assert "guest.ballooned: the workload leaves only 2 MiB to give back" in refused(capsys, "run", scenario)


def test_a_policy_that_raises_while_it_runs(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    policy = scenario.parent / "mine.py"
    policy.write_text("class Mine:\n    def drain(self, point, sender):\n        raise LookupError('lost')\n")
    out = scenario.parent / "out"
    message = refused(capsys, "run", scenario, "--policy", f"{policy}:Mine", "--out", out)
    assert "raised LookupError" in message
    assert "lost" in message
    assert sorted(path.name for path in scenario.parent.iterdir() if path.is_dir()) in ([], ["__pycache__"])


def test_help_and_version_come_at_once() -> None:
    """Nothing slow is imported for them."""
    code = (
        "import sys\nfrom simmig.cli.main import main\nmain(['run', '--help'])\n"
        "slow = {'pint', 'numpy', 'matplotlib', 'pydantic', 'simpy', 'rich.console'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("simmig, version ")


def test_a_reader_that_leaves_early_ends_it_quietly(scenario: Path) -> None:
    command = f"{sys.executable} -m simmig.cli run --help | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
