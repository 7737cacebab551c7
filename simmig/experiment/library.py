"""simmig from Python: one run, or a sweep, a line each. Bad input raises InputError, which tells all problems."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simmig.experiment.errors import InputError
from simmig.experiment.result import Result
from simmig.experiment.runs.run import MOST_EVENTS
from simmig.experiment.runs.run import run as simulate
from simmig.experiment.scenario.data import find
from simmig.experiment.scenario.load import Overrides, Setting, build_scenario, policy_table
from simmig.experiment.scenario.toml_file import read_toml
from simmig.experiment.studies.sweep.spec import SweepSpec, load_sweep, make_sweep, placed
from simmig.migration import policies

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

PolicyLike = str | type[policies.Policy] | Callable[[policies.Point, policies.Sender], int | None]
"""A policy's name with its parameters ("pending-limit,limit=16 MiB"), a class, or its `drain` as a function."""


def run(
    scenario: str | Path,
    *,
    policy: PolicyLike | None = None,
    set: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Result:
    """Simulate one migration.

    Args:
        scenario: a scenario's file, or the name of one that comes with simmig.
        policy: replaces the scenario's.
        set: replaces values by dotted key, {"guest.memory": "4 GiB"}; a policy's parameters are "policy.limit".
        seed: replaces the scenario's.

    Paths in `policy` and `set` are relative to the working directory.

    Returns the result; `result.figures()` are those of ``simmig run --json``. With compiled code at hand, a run
    whose trace would have more than ten million events is simulated without one: no digest then, no invariants.
    """
    path = find(Path(scenario))
    settings: list[Setting] = []
    if policy is not None:
        settings.append((("policy",), policy_table(_spec(policy), "policy"), "policy"))
    settings += [(tuple(key.split(".")), value, "set") for key, value in (set or {}).items()]
    settings = [(key, placed(key, value, Path.cwd()), place) for key, value, place in settings]
    loaded = build_scenario(read_toml(path), path, Overrides(seed=seed), settings)
    return simulate(loaded, most_events=MOST_EVENTS)


def sweep(
    source: str | Path,
    *,
    axes: Mapping[str, Any] | None = None,
    variants: Mapping[str, Any] | None = None,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    dask: str | None = None,
) -> SweepResults:
    """Simulate the points of a grid.

    Args:
        source: a sweep's file; or, with `axes` or `variants`, a scenario's.
        axes: as in a sweep's file, {"link.bandwidth": ["10 Gbit/s", "40 Gbit/s"], "seed": {"from": 1, "to": 5}};
            policies may be classes and functions, too: simulated in this process, and not kept in `out`.
        variants: as in a sweep's file.
        set: as in a sweep's file.
        out: where results go, and a sweep that was cut off goes on; else they last as long as what is returned.
        jobs: processes; by default one a core.
        dask: the address of a Dask cluster's scheduler, in place of processes.

    More than one process start anew with the main script: there, call this under ``if __name__ == "__main__":``.
    """
    from simmig.experiment.studies.sweep.pool import cores, dask_cluster, processes  # noqa: PLC0415  # needs an extra
    from simmig.experiment.studies.sweep.sweep import run_sweep  # noqa: PLC0415

    if axes is None and variants is None:
        if set is not None:
            raise TypeError("sweep: `set` goes with `axes` or `variants`; a sweep's file has its own")
        loaded = load_sweep(find(Path(source), "sweeps"))
    else:
        loaded = _made(find(Path(source)), axes or {}, variants or {}, set or {})
    own = {sample.policy.name for sample in loaded.samples if policies.is_registered(sample.policy.name)}
    if own and (out is not None or dask is not None):
        raise InputError(
            f"{'dask' if out is None else 'out'}: only this process knows policy {min(own)!r}, as it is now; "
            f'put it into a file, "path/to/file.py:{min(own)}", or leave this out'
        )
    workers: Callable[[], AbstractContextManager[tuple[Executor, int]]] = partial(
        processes, 1 if own else jobs or cores(), threads=bool(own) or jobs == 1
    )
    if dask is not None:
        workers = partial(dask_cluster, dask)
    if out is not None:
        return SweepResults(run_sweep(loaded, Path(out), workers).results)
    scratch = Path(tempfile.mkdtemp(prefix="simmig-"))
    try:
        results = SweepResults(run_sweep(loaded, scratch / "sweep", workers).results)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(results, shutil.rmtree, scratch, ignore_errors=True)
    return results


class SweepResults:
    """A sweep's results: a row a point, with every input and every figure as a column.

    Attributes:
        path: the Parquet file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def frame(self) -> pd.DataFrame:
        """All of it as a pandas data frame."""
        import pandas as pd  # noqa: PLC0415  # slow, and an extra

        return pd.read_parquet(self.path)

    def provenance(self) -> dict[str, Any]:
        """Where the results come from: versions, the sweep's and the scenario's text, the axes' columns."""
        import pyarrow.parquet as pq  # noqa: PLC0415  # slow, and an extra

        found: dict[str, Any] = json.loads(pq.read_schema(self.path).metadata[b"simmig"])
        return found


def _made(
    scenario: Path, axes: Mapping[str, Any], variants: Mapping[str, Any], fixed: Mapping[str, Any]
) -> SweepSpec:
    """The sweep; raises InputError for two policies of one name, by which they are told apart."""
    told = dict(axes)
    if isinstance(asked := axes.get("policy"), list | tuple):
        own: dict[str, object] = {}
        for policy in filter(callable, asked):
            if own.setdefault(_name(policy), policy) is not policy:
                raise InputError(f"axes.policy: two policies are called {_name(policy)!r}; give one another name")
        told["policy"] = [_spec(policy) if callable(policy) else policy for policy in asked]
    raw = {"set": dict(fixed), "axes": told, "variants": dict(variants)}
    place = Path.cwd() / "sweep"
    return make_sweep(raw, place, scenario, json.dumps(raw, indent=2, default=str))


def _spec(policy: PolicyLike) -> str:
    """How a scenario names the policy."""
    if isinstance(policy, str):
        return policy
    name = _name(policy)
    if isinstance(policy, type):
        return policies.register(name, policy)
    return policies.register(name, policies.of_function(policy, name))


def _name(policy: Callable[..., Any]) -> str:
    name = getattr(policy, "__name__", None)
    if not isinstance(name, str):
        raise InputError(f"policy: {policy!r} has no name; give a class or a function")
    return name
