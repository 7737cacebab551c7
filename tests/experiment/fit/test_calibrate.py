"""Calibration against hosts whose costs are known, because they are simulated; its file; its robustness."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.errors import InputError
from simmig.experiment.fit import calibrate as calibrating
from simmig.experiment.fit.calibrate import Model, line
from simmig.experiment.fit.compare import downtime_hit, total_time_hit
from simmig.experiment.fit.model_file import write_model
from simmig.experiment.fit.probe import Samples
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, build_scenario, load_scenario
from simmig.experiment.scenario.machine import Devices
from simmig.experiment.scenario.schema import Scenario

DEVICES = Devices("rdma0", "rdma1")
HOST = {
    "register": "1 ms",
    "register_page": "2 us",
    "deregister": "200 us",
    "deregister_page": "300 ns",
    "post": "100 us",
    "post_byte": "0 ns",
    "poll": "10 us",
    "poll_cqe": "50 us",
    "wake": "400 us",
    "scan_page": "600 ns",
    "sync_page": "150 ns",
    "zero_test_page": "15 us",
    "message": "3 ms",
    "write": "2 ms",
    "connect": "150 ms",
    "stop": "4 ms",
    "resume": "7 ms",
}
TRUTH: dict[str, Any] = {
    "link": {"bandwidth": "100 Mbit/s", "latency": "2 ms", "mtu": "4096 B", "header": "58 B"},
    "host": HOST,
    "destination_host": HOST | {"register_page": "80 us", "message": "5 ms"},
    "device": {"profile": "rxe"},
}


def _samples() -> Samples:
    """What the probe would find on such hosts."""
    ping_ns = 2 * 2_000_000 + 100_000 + 10_000 + 50_000 + (8 + 58) * 80
    pages = (1, 64, 256, 1024)
    return Samples(
        register=[(n, 1_000_000 + 2_000 * n) for n in pages],
        register_fresh=[(n, 1_000_000 + 80_000 * n) for n in pages],
        deregister=[(n, 200_000 + 300 * n) for n in pages],
        polled_ping=[ping_ns] * 5,
        awaited_ping=[ping_ns + 400_000] * 5,
        small_post=[100_000] * 5,
        large_post=[100_000] * 3,
        empty_poll=[10_000] * 5,
        full_poll=[60_000] * 5,
        interval=[256 * 4154 * 80] * 5,
        scan=[600] * 5,
        sync=[150] * 5,
        zero_test=[15_000] * 5,
        packet_bytes=[4154.06],
    )


@pytest.fixture
def simulated_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that are simulated with the true costs, whatever the scenario says."""

    def run_pair(scenario: Scenario, devices: Devices, readers: Any = ()) -> Any:
        return run(_truth().applied_to(scenario), readers)

    monkeypatch.setattr(calibrating, "run_pair", run_pair)
    monkeypatch.setattr(calibrating, "probe", lambda devices: _samples())
    monkeypatch.setattr(calibrating, "profile_of", lambda name: "rxe")


def _truth() -> Model:
    return Model(DEVICES, "then", "6.1", TRUTH)


def test_the_costs_of_known_hosts_are_found(simulated_devices: None) -> None:
    told: list[str] = []
    model = calibrating.calibrate_devices(DEVICES, told.append)
    assert told
    found = build_scenario({"guest": {"memory": "4 KiB"}, **_copy(model.tables)}, Path("found"))
    true = build_scenario({"guest": {"memory": "4 KiB"}, **_copy(TRUTH)}, Path("true"))
    assert found.link.bandwidth_bit_s == pytest.approx(true.link.bandwidth_bit_s, rel=1e-3)
    assert found.link.latency_ns == pytest.approx(true.link.latency_ns, rel=1e-3)
    assert (found.link.mtu_bytes, found.link.header_bytes, found.device.profile) == (4096, 58, "rxe")
    for host, truth in ((found.host, true.host), (found.destination_host, true.destination_host)):
        assert host is not None
        assert truth is not None
        for key in HOST:
            name = f"{key}_ns"
            assert getattr(host, name) == pytest.approx(getattr(truth, name), rel=0.01, abs=1), key


def test_a_poller_that_keeps_the_processor_from_the_device_does_not_lengthen_the_link(
    simulated_devices: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = _samples()
    starved = replace(honest, polled_ping=[each + 20_000_000 for each in honest.polled_ping])
    monkeypatch.setattr(calibrating, "probe", lambda devices: starved)
    model = calibrating.calibrate_devices(DEVICES, lambda _: None)
    found = build_scenario({"guest": {"memory": "4 KiB"}, **_copy(model.tables)}, Path("found"))
    assert found.link.latency_ns == pytest.approx(2_000_000 + 400_000 / 2, rel=1e-3)
    assert found.host.wake_ns == 0


def test_a_machine_that_is_slow_for_a_third_of_the_time_is_calibrated_as_if_it_were_not(
    simulated_devices: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = calibrating.calibrate_devices(DEVICES, lambda _: None)
    visits = 0

    def probe(devices: Devices) -> Samples:
        nonlocal visits
        visits += 1
        return _slower(_samples()) if visits == 2 else _samples()

    def run_pair(scenario: Scenario, devices: Devices, readers: Any = ()) -> Any:
        slow = dict.fromkeys(("message", "write", "connect", "stop", "resume"), "400 ms") if visits == 2 else {}
        truth = TRUTH | {"host": HOST | slow}
        return run(Model(DEVICES, "then", "6.1", truth).applied_to(scenario), readers)

    monkeypatch.setattr(calibrating, "probe", probe)
    monkeypatch.setattr(calibrating, "run_pair", run_pair)
    disturbed = calibrating.calibrate_devices(DEVICES, lambda _: None)
    assert visits == calibrating.VISITS
    assert disturbed.tables == quiet.tables


def _slower(samples: Samples) -> Samples:
    """All of it taking three times as long."""
    slow: dict[str, Any] = {}
    for each in fields(samples):
        match getattr(samples, each.name):
            case [(_, _), *_] as pairs:
                slow[each.name] = [(size, 3 * ns) for size, ns in pairs]
            case [int(), *_] as times:
                slow[each.name] = [3 * ns for ns in times]
    return replace(samples, **slow)


def test_a_prediction_by_it_hits(simulated_devices: None) -> None:
    model = calibrating.calibrate_devices(DEVICES, lambda _: None)
    scenario = load_scenario(
        Path("scenarios/lab-small.toml"), Overrides(("guest.memory=8 MiB", "migration.pin_all=false"))
    )
    predicted, true = (run(each.applied_to(scenario)).metrics for each in (model, _truth()))
    assert total_time_hit(predicted.total_time_ns, true.total_time_ns)
    assert downtime_hit(predicted.downtime_ns, true.downtime_ns)


def _copy(tables: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(table) for name, table in tables.items()}


@settings(max_examples=50)
@given(
    st.floats(0, 1e5),
    st.floats(0, 1e7),
    st.dictionaries(st.sampled_from((1, 64, 256, 1024)), st.integers(0, 10**9), max_size=1),
)
def test_one_wild_sample_in_twenty_does_not_move_a_line(slope: float, fixed: float, wild: dict[int, int]) -> None:
    pairs = [(n, round(fixed + slope * n)) for n in (1, 64, 256, 1024) for _ in range(5)]
    for size, value in wild.items():
        pairs[pairs.index((size, round(fixed + slope * size)))] = (size, value)
    found_slope, found_fixed = line(pairs)
    assert found_slope == pytest.approx(slope, abs=0.1)
    assert found_fixed == pytest.approx(fixed, abs=100)


def test_the_file_says_what_was_measured_and_can_be_simulated_on(simulated_devices: None, tmp_path: Path) -> None:
    model = calibrating.calibrate_devices(DEVICES, lambda _: None)
    path = tmp_path / "lab.toml"
    write_model(model, path)
    written = tomllib.loads(path.read_text())
    assert written["measured"]["source_device"] == "rdma0"
    assert written["measured"]["kernel"]
    assert {name: written[name] for name in model.tables} == model.tables
    assert set(written["source"]) == set(model.document()["figures"])
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        '[guest]\nmemory = "4 MiB"\n[link]\nmodel = "lab.toml"\nlatency = "5 ms"\n[host]\nmodel = "lab.toml"\n'
    )
    loaded = load_scenario(scenario)
    assert loaded.link.latency_ns == 5_000_000  # the scenario's own key stands
    assert loaded.link.bandwidth_bit_s == pytest.approx(100_000_000, rel=1e-3)
    assert loaded.host.connect_ns > 0
    with pytest.raises(InputError, match="exists already"):
        write_model(model, path)
    assert tomllib.loads(path.read_text()) == written


def test_a_file_without_the_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('[link]\nbandwidth = "1 Gbit/s"\n')
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[guest]\nmemory = "4 MiB"\n[host]\nmodel = "lab.toml"\n')
    with pytest.raises(InputError, match=r"lab.toml: has no table \[host\]"):
        load_scenario(scenario)


def test_verdicts() -> None:
    assert total_time_hit(1.05e9, 1e9)
    assert not total_time_hit(1.06e9, 1e9)
    assert downtime_hit(60e6, 41e6)  # 19 ms off
    assert downtime_hit(1.14e9, 1e9)
    assert not downtime_hit(1.16e9, 1e9)
