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

from simmig.experiment.load import Overrides, Setting, build_scenario, policy_table, read_toml
from simmig.experiment.result import Result
from simmig.experiment.sweep.work import simulate
from simmig.migration import policies

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from simmig.experiment.sweep.spec import Sweep

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
        scenario: a scenario's file.
        policy: replaces the scenario's.
        set: replaces values by dotted key, {"guest.memory": "4 GiB"}; a policy's parameters are "policy.limit".
        seed: replaces the scenario's.

    Returns the result; `result.figures()` are those of ``simmig run --json``.
    """
    spec = None if policy is None else _spec(policy)
    path = Path(scenario)
    settings: list[Setting] = [] if spec is None else [(("policy",), policy_table(spec, "policy"), "policy")]
    settings += [(tuple(key.split(".")), value, "set") for key, value in (set or {}).items()]
    loaded = build_scenario(read_toml(path), path, Overrides(seed=seed), settings)
    return simulate(loaded)


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
            policies may be classes and functions, too, which are simulated in this process.
        variants: as in a sweep's file.
        set: as in a sweep's file.
        out: where results go, and a sweep that was cut off goes on; else they last as long as what is returned.
        jobs: processes; by default one a core.
        dask: the address of a Dask cluster's scheduler, in place of processes.

    More than one process start anew with the main script: there, call this under ``if __name__ == "__main__":``.
    """
    from simmig.experiment.sweep.pool import cores, dask_cluster, processes  # noqa: PLC0415  # needs an extra
    from simmig.experiment.sweep.spec import load_sweep  # noqa: PLC0415
    from simmig.experiment.sweep.sweep import run_sweep  # noqa: PLC0415

    here = False
    if axes is None and variants is None:
        if set is not None:
            raise TypeError("sweep: `set` goes with `axes` or `variants`; a sweep's file has its own")
        loaded = load_sweep(Path(source))
    else:
        loaded, here = _made(Path(source), axes or {}, variants or {}, set or {})
    workers: Callable[[], AbstractContextManager[tuple[Executor, int]]] = partial(
        processes, 1 if here else jobs or cores()
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
) -> tuple[Sweep, bool]:
    """The sweep, and whether it can only run in this process, which alone knows its policies."""
    from simmig.experiment.sweep.spec import make_sweep  # noqa: PLC0415  # needs an extra

    own = [value for value in axes.get("policy", ()) if callable(value)]
    told = {
        key: [_spec(value) if callable(value) else value for value in values] if key == "policy" else values
        for key, values in axes.items()
    }
    raw = {"set": dict(fixed), "axes": told, "variants": dict(variants)}
    place = Path.cwd() / "sweep"
    return make_sweep(raw, place, scenario, json.dumps(raw, indent=2, default=str)), bool(own)


def _spec(policy: PolicyLike) -> str:
    """How a scenario names the policy."""
    if isinstance(policy, str):
        return policy
    if isinstance(policy, type):
        return policies.register(policy.__name__, policy)
    drain = policy
    return policies.register(drain.__name__, type(drain.__name__, (), {"drain": lambda _, *seen: drain(*seen)}))
