"""How soft-RoCE deviates from the rules, as data (`deviations.toml`), and the page made of it.

`python -m tests.verbs.deviations` writes docs/deviations.md anew.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).with_name("deviations.toml")
PAGE = ROOT / "docs" / "deviations.md"
_HEAD = """# How soft-RoCE deviates

What the rules of a reliable connection say, and what Linux' `rdma_rxe` was seen to do instead. Each row is held
by the test named in it, which asks simulated devices and, in the lab, real ones (`make test-device`);
*simulated* says whether the `rxe` profile of the simulation does the same. Made from
`tests/verbs/deviations.toml` by `python -m tests.verbs.deviations`.

| rule | what the rule says | what rxe does | kernel | simulated | test |
| --- | --- | --- | --- | --- | --- |
"""

_YES_NO = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class Deviation:
    """One row; `simulated`: the `rxe` profile deviates alike."""

    rule: str
    says: str
    does: str
    kernel: str
    simulated: bool
    test: str


@functools.cache
def load() -> dict[str, Deviation]:
    """The rows, by the names under which tests ask for them."""
    return {name: Deviation(**row) for name, row in tomllib.loads(DATA.read_text()).items()}


def page() -> str:
    """docs/deviations.md."""
    rows = [
        f"| {row.rule} | {row.says} | {row.does} | {row.kernel} | {_YES_NO[row.simulated]} | `{row.test}` |"
        for row in load().values()
    ]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
