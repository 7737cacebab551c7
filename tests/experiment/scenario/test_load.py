"""Scenarios: what they come to, and how each mistake in one is told."""

import tomllib
from pathlib import Path

import pytest

from simmig.experiment.errors import InputError
from simmig.experiment.scenario.data import data_dir, models
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.experiment.scenario.policy_choice import make_policy, parameters_of, policy_text
from simmig.experiment.scenario.schema import HostTable, IdleTable, Scenario, UniformTable, key_of
from simmig.migration.config import MigrationConfig
from simmig.verbs.sim.host import HostCosts

MINIMAL = """
[guest]
memory = "8 MiB"
[link]
bandwidth = "1 Gbit/s"
latency = "5 us"
"""


def scenario(tmp_path: Path, text: str, *settings: str, policy: str | None = None) -> Scenario:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return load_scenario(path, Overrides(settings, policy))


def problem(tmp_path: Path, text: str, *settings: str, policy: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        scenario(tmp_path, text, *settings, policy=policy)
    return str(caught.value)


def test_defaults_are_qemu_s(tmp_path: Path) -> None:
    loaded = scenario(tmp_path, MINIMAL)
    assert loaded.migration.config() == MigrationConfig(max_bandwidth_bytes_s=None)
    assert loaded.guest.blocks == [("pc.ram", 8 << 20)]
    assert (loaded.link.bandwidth_bit_s, loaded.link.latency_ns) == (10**9, 5000)
    assert loaded.policy.name == "per-iteration"


def test_every_scenario_that_ships_loads_and_says_what_it_shows() -> None:
    # sweeps/ holds files of another kind: tests/experiment/studies/sweep
    paths = sorted(path for path in data_dir("scenarios").rglob("*.toml") if path.parent.name != "sweeps")
    assert paths
    for path in paths:
        load_scenario(path)
        assert path.read_text().startswith("# ")


@pytest.mark.parametrize("kind", ["links", "hosts", "workloads"])
def test_every_model_that_ships_names_the_source_of_each_figure_and_loads(tmp_path: Path, kind: str) -> None:
    tables = {"links": "[link]", "hosts": "[host]", "workloads": "[guest.workload]"}
    for name, path in models(kind).items():
        text = MINIMAL.replace("8 MiB", "64 GiB")
        if kind == "links":
            text = text[: text.index("[link]")]
        scenario(tmp_path, f'{text}\n{tables[kind]}\nmodel = "{name}"\n')
        figures = tomllib.loads(path.read_text())
        sources = figures.pop("source")
        assert set(sources) == set(figures), name
        assert all(isinstance(text, str) and text.strip() for text in sources.values()), name


def test_host_costs_are_those_of_the_simulated_host() -> None:
    keys = {key_of(name) for name in HostTable.model_fields} - {"model"}
    assert keys == {key_of(name) for name in HostCosts.__slots__}


def test_a_table_s_own_keys_override_its_model(tmp_path: Path) -> None:
    loaded = scenario(tmp_path, MINIMAL.replace("[link]", '[link]\nmodel = "roce-25g"'))
    assert (loaded.link.bandwidth_bit_s, loaded.link.header_bytes) == (10**9, 82)


def test_settings_override_the_file(tmp_path: Path) -> None:
    loaded = scenario(
        tmp_path,
        MINIMAL,
        "guest.memory=16 MiB",
        "guest.workload.kind=uniform",
        'guest.workload.working_set="4 MiB"',
        "guest.workload.rate=1 MiB/s",
        "migration.slice=round",
        "migration.max_rounds=7",
        "migration.pin_all=true",
        policy="pending-limit,limit=3 MiB",
    )
    assert loaded.guest.memory_bytes == 16 << 20
    assert isinstance(loaded.guest.workload, UniformTable)
    config = loaded.migration.config()
    assert (config.slice_ns, config.max_rounds, config.pin_all) == ("round", 7, True)
    assert (loaded.policy.name, loaded.policy.parameters) == ("pending-limit", {"limit": "3 MiB"})


SWEEPING = '[guest.workload]\nkind = "sweep"\nworking_set = "4 MiB"\nrate = "1 MiB/s"\n'


def test_another_kind_of_workload_leaves_the_file_s_keys_of_the_old_one(tmp_path: Path) -> None:
    text = MINIMAL + SWEEPING
    assert scenario(tmp_path, text, "guest.workload.kind=idle").guest.workload == IdleTable()
    uniform = scenario(tmp_path, text, "guest.workload.kind=uniform").guest.workload
    assert isinstance(uniform, UniformTable)
    assert uniform.working_set_bytes == 4 << 20
    by_model = MINIMAL + '[guest.workload]\nmodel = "stress-7500m"\n'
    assert scenario(tmp_path, by_model, "guest.workload.kind=idle").guest.workload == IdleTable()
    told = problem(tmp_path, text, "guest.workload.hot_set=1 MiB", "guest.workload.kind=uniform")
    assert "--set guest.workload.hot_set=1 MiB: guest.workload.hot_set: unknown key" in told


def test_words_stand_for_no_limit(tmp_path: Path) -> None:
    config = scenario(
        tmp_path, MINIMAL, "migration.slice=unlimited", "migration.max_bandwidth=unlimited"
    ).migration.config()
    assert (config.slice_ns, config.max_bandwidth_bytes_s) == (None, None)


def test_blocks_make_up_the_memory(tmp_path: Path) -> None:
    text = MINIMAL.replace('memory = "8 MiB"', "") + (
        '[[guest.block]]\nname = "pc.ram"\nsize = "4 MiB"\n[[guest.block]]\nname = "vga.vram"\nsize = "1 MiB"\n'
    )
    loaded = scenario(tmp_path, text)
    assert loaded.guest.blocks == [("pc.ram", 4 << 20), ("vga.vram", 1 << 20)]
    assert loaded.guest.memory_bytes == 5 << 20


@pytest.mark.parametrize(
    ("ballooned", "pages"), [("0.25", 512), ('"25 %"', 512), ('"1 MiB"', 256), ("0", 0), ("1", 2048)]
)
def test_ballooned_memory_is_a_share_or_a_size(tmp_path: Path, ballooned: str, pages: int) -> None:
    assert scenario(tmp_path, MINIMAL, f"guest.ballooned={ballooned}").guest.ballooned_pages == pages


def test_paths_in_a_scenario_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    def drain(self, point, sender):\n        return None\n")
    monkeypatch.chdir("/")
    loaded = scenario(tmp_path, MINIMAL + '[policy]\nname = "mine.py:Mine"\n')
    assert loaded.policy.name == f"{tmp_path}/mine.py:Mine"


WRONG = [
    ("memory = ", "memry = ", "guest.memry: unknown key; did you mean 'memory'?"),
    ("[guest]", "[gest]", "gest: unknown key; did you mean 'guest'?"),
    ('"8 MiB"', '"8 Mib"', 'guest.memory: unknown unit "Mib"; did you mean "MiB"?'),
    ('"8 MiB"', '"8 ms"', 'guest.memory: "ms" is no unit of size'),
    ('"8 MiB"', "8388608", "guest.memory: 8388608 has no unit"),
    ('"8 MiB"', '"-8 MiB"', 'guest.memory: "-8 MiB" is negative'),
    ('"8 MiB"', '"0 B"', "guest.memory: 0 B is out of bounds: from 4 KiB to 8 TiB"),
    ('"8 MiB"', '"9 TiB"', "guest.memory: 9 TiB is out of bounds"),
    ('"8 MiB"', '"10000 B"', "guest.memory: 10000 bytes are no whole number of pages (4 KiB each)"),
    ('memory = "8 MiB"', "", 'guest: needs memory = "8 GiB", or blocks'),
    ('bandwidth = "1 Gbit/s"', "", "link.bandwidth: missing"),
    ('"1 Gbit/s"', '"0 bit/s"', "link.bandwidth: 0 bit/s is out of bounds"),
    ('"5 us"', '"-5 us"', 'link.latency: "-5 us" is negative'),
    ("[link]", "[link]\nmtu = '1500 B'", "link.mtu: 1500 B is no RDMA MTU"),
    ("[link]", "[link]\nloss = 1.0", "link.loss: 1.0: should be less than 1"),
    ("[link]", "[link]\nloss = nan", "link.loss: nan"),
    ("[link]", "[link]\nmodel = 'roce-25'", "link.model: unknown model 'roce-25'; did you mean 'roce-25g'?"),
    ("[link]", "[link]\nmodel = 7", "link.model: unknown model 7; one of "),
    ("[link]", "[host]\nmodel = 'x'\n[link]", "host.model: unknown model 'x'; one of "),
    (
        "[link]",
        "[host]\nregister_pages = '1 ns'\n[link]",
        "host.register_pages: unknown key; did you mean 'register_page'?",
    ),
    ("[link]", "[host]\npost = 3\n[link]", "host.post: 3 has no unit"),
    ("[link]", "[device]\nprofile = 'mlx'\n[link]", "device.profile: 'mlx' is unknown; did you mean 'mlx5'?"),
    ("[link]", "[migration]\nslice = '5 GiB'\n[link]", 'migration.slice: "GiB" is no unit of time'),
    ("[link]", "[migration]\nslice = '0 ns'\n[link]", "migration.slice: 0 ns is out of bounds"),
    ("[link]", "[migration]\nslice = 'unlimitd'\n[link]", 'did you mean "unlimited"?'),
    (
        "[link]",
        "[migration]\nmax_rounds = 0\n[link]",
        "migration.max_rounds: 0: should be greater than or equal to 1",
    ),
    ("[link]", "[migration]\nmax_rounds = true\n[link]", "migration.max_rounds: True: should be a valid integer"),
    ("[link]", "[migration]\nregistration_batch = 4097\n[link]", "migration.registration_batch: 4097"),
    ("[link]", "[migration]\npin_all = 'yes'\n[link]", "migration.pin_all: 'yes': should be a valid boolean"),
    (
        "[link]",
        "[migration]\ncontrol_qp = 'onw'\n[link]",
        "migration.control_qp: 'onw' is unknown; did you mean 'own'?",
    ),
    (
        "[link]",
        "[policy]\nname = 'pending-limt'\n[link]",
        "unknown policy 'pending-limt': did you mean 'pending-limit'?",
    ),
    (
        "[link]",
        "[policy]\nname = 'pending-limit'\nlimt = '1 MiB'\n[link]",
        "policy.limt: unknown key; did you mean 'limit'?",
    ),
    ("[link]", "[policy]\nname = 'per-chunk'\nlimit = '1 MiB'\n[link]", "policy per-chunk takes no parameters"),
    ("[link]", "[policy]\nname = 'pending-limit'\nlimit = '1 s'\n[link]", 'policy.limit: "s" is no unit of size'),
    ("[link]", "zero_fraction = 1.5\n[link]", "guest.zero_fraction: 1.5: should be less than or equal to 1"),
    ("[link]", "ballooned = '16 MiB'\n[link]", "guest: ballooned is larger than the guest's memory"),
    ("[link]", "ballooned = '100 B'\n[link]", "guest.ballooned: 100 bytes are no whole number of pages"),
    ("[link]", "ballooned = -1\n[link]", "guest.ballooned: -1 is neither a fraction"),
    ("[link]", "workload = 'idle'\n[link]", "guest.workload: 'idle'"),
    (
        "[link]",
        "workload = { kind = 'unifrm' }\n[link]",
        "guest.workload.kind: unknown kind 'unifrm'; did you mean 'uniform'?",
    ),
    (
        "[link]",
        "workload = { kind = 'idle', rate = '1 B/s' }\n[link]",
        "guest.workload.rate: unknown key for kind 'idle'; one of model, kind",
    ),
    ("[link]", "workload = {}\n[link]", "guest.workload.kind: missing; one of idle, uniform"),
    ("[link]", "workload = { kind = 'sweep', rate = '1 B/s' }\n[link]", "guest.workload.working_set: missing"),
    (
        "[link]",
        "workload = { kind = 'sweep', working_set = '9 MiB', rate = '1 B/s' }\n[link]",
        "guest: workload.working_set is larger than the guest's memory",
    ),
    (
        "[link]",
        "workload = { kind = 'hotspot', working_set = '1 MiB', hot_set = '1 MiB', "
        "hot_fraction = 0.5, rate = '1 B/s' }\n[link]",
        "guest.workload: hot_set must be smaller than working_set",
    ),
    ("[link]", "device_state = '3 B'\n[link]", "guest.device_state: 3 B is out of bounds"),
    ("[guest]", "seed = -1\n[guest]", "seed: -1: should be greater than or equal to 0"),
    ("[link]", "[[guest.block]]\nname = 'a'\nsize = '1 MiB'\n[link]", "the blocks add up to 1 MiB"),
    ("[link]", "[[guest.block]]\nname = ''\nsize = '1 MiB'\n[link]", "guest.block[0].name"),
    (
        "[link]",
        "[[guest.block]]\nname = 'a'\nsiz = '1 MiB'\n[link]",
        "guest.block[0].siz: unknown key; did you mean 'size'?",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "told"), WRONG)
def test_what_is_wrong_is_told_with_file_and_key(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    assert right in MINIMAL
    message = problem(tmp_path, MINIMAL.replace(right, wrong, 1))
    assert told in message
    assert all(line.startswith(f"{tmp_path}/scenario.toml: ") for line in message.splitlines())


def test_a_misspelled_key_is_told_once(tmp_path: Path) -> None:
    assert len(problem(tmp_path, MINIMAL.replace("bandwidth", "bandwith")).splitlines()) == 1


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    message = problem(tmp_path, MINIMAL.replace("8 MiB", "8 Mb").replace("5 us", "5 u"))
    assert len(message.splitlines()) == 2


def test_malformed_toml_is_told_with_its_line(tmp_path: Path) -> None:
    message = problem(tmp_path, "[guest]\nmemory = 8 GiB\n")
    assert message.startswith(f"{tmp_path}/scenario.toml: malformed TOML: ")
    assert "line 2" in message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"x\.toml: not a text file in UTF-8"):
        load_scenario(tmp_path / "x.toml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: cannot be read: No such file"):
        load_scenario(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_scenario(tmp_path)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("guest.memry=1 MiB", "guest.memry: unknown key; did you mean 'memory'?"),
        ("guest.memory=1 Mib", 'guest.memory: unknown unit "Mib"'),
        ("guest.memory", "write table.key=value"),
        ("=3", "write table.key=value"),
        ("guest..memory=3", "write table.key=value"),
        ("guest.memory.x=3", "memory is no table with keys of its own"),
        ("link.model=roce", "link.model: unknown model 'roce'"),
    ],
)
def test_a_wrong_setting_is_told_as_one(tmp_path: Path, setting: str, told: str) -> None:
    message = problem(tmp_path, MINIMAL, setting)
    assert message.startswith(f"--set {setting}: ")
    assert told in message


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("per-chnk", "did you mean 'per-chunk'?"),
        ("pending-limit,limit", "'limit' is not key=value"),
        ("pending-limit,limit=1", "policy.limit: 1 has no unit"),
        ("pending-limit,limit=1 s", 'policy.limit: "s" is no unit of size'),
        ("pending-limit,name=x", "'name=x' is not key=value"),
        ("", "unknown policy ''"),
    ],
)
def test_a_wrong_policy_is_told_as_one(tmp_path: Path, policy: str, told: str) -> None:
    message = problem(tmp_path, MINIMAL, policy=policy)
    assert message.startswith(f"--policy {policy}: ")
    assert told in message


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise RuntimeError('boom')", "raised RuntimeError: boom"),
        ("def f(:", "raised SyntaxError"),
        ("import nothing_of_this_name", "raised ModuleNotFoundError"),
        ("Mine = 3", "is no class with a drain"),
        ("class Other: pass", "defines no 'Mine'"),
        (
            "class Mine:\n    def __init__(self):\n        raise KeyError('no')\n"
            "    def drain(self, p, s):\n        pass",
            "cannot be made: KeyError: 'no'",
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass Mine:\n    depth: int\n"
            "    def drain(self, p, s):\n        pass",
            "policy.depth: missing: policy",
        ),
    ],
)
def test_a_policy_file_that_cannot_be_used_is_told(tmp_path: Path, source: str, told: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    message = problem(tmp_path, MINIMAL, policy=f"{tmp_path}/mine.py:Mine")
    assert told in message
    assert "\n" not in message


def test_a_policy_s_parameters_are_converted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass, field\n@dataclass\nclass Mine:\n"
        "    wait: int = field(default=0, metadata={'unit': 'time'})\n"
        "    share: float = 0.5\n    often: bool = False\n"
        "    _state: int = field(default=0, init=False)\n"
        "    def drain(self, point, sender):\n        return None\n"
    )
    spec = f"{tmp_path}/mine.py:Mine"
    policy = make_policy(spec, {"wait": "2 ms", "share": 1})
    assert parameters_of(policy) == {"wait": 2_000_000, "share": 1.0, "often": False}
    assert policy_text("Mine", policy) == "Mine (wait 2 ms, share 1.0, often False)"
    for given, told in (
        ({"share": "half"}, "'half' is no float"),
        ({"often": 1}, "1 is no bool"),
        ({"_state": 1}, "unknown key"),
    ):
        with pytest.raises(ValueError, match=told):
            make_policy(spec, given)


def test_a_policy_without_parameters_is_its_name() -> None:
    assert policy_text("per-chunk", make_policy("per-chunk", {})) == "per-chunk"
    assert policy_text("pending-limit", make_policy("pending-limit", {})) == "pending-limit (limit 64 MiB)"
