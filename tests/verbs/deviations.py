"""How soft-RoCE deviates from the rules, as data (`deviations.toml`), and the page made of it.

`python -m tests.verbs.deviations` writes docs/deviations.md anew.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).with_name("deviations.toml")
PAGE = ROOT / "docs" / "deviations.md"
STACKS = (("6.1", "44"), ("6.12", "44"), ("6.12", "56"))
"""What was asked (`make test-rules`): Linux' series, and the version of rdma-core with its pyverbs."""
_HEAD = """# How soft-RoCE deviates

What the rules of a reliable connection say, and what Linux' `rdma_rxe` was seen to do instead. Each row is held
by the test named in it, which asks simulated devices and, in the lab, real ones (`make test-device`). The columns
of numbers are what was asked, a kernel and a pyverbs: *yes* where it deviates, a dash where it keeps the rule.
`make test-rules` asks them all, a boot each: Debian 12, its backports' kernel, and that with Debian 13's user
space ([testing-on-devices.md](testing-on-devices.md)). A kernel that was not asked is judged like the newest
before it that was. *Simulated* says whether the `rxe` profile of the simulation, which is 6.1's, does the same.
Made from `tests/verbs/deviations.toml` by `python -m tests.verbs.deviations`.

"""

_YES_NO = {True: "yes", False: "no"}


def _version(text: str) -> tuple[int, ...]:
    """Of a series, e.g. 6.12, or of a release such as 6.12.95+deb12-amd64."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


@dataclass(frozen=True, slots=True)
class Deviation:
    """One row; `kernel` to `gone`: where it was seen; `simulated`: the `rxe` profile deviates alike."""

    rule: str
    says: str
    does: str
    kernel: str
    simulated: bool
    test: str
    gone: str = ""

    def on(self, kernel: str) -> bool:
        """Whether that kernel deviates so; one older than all that were asked is judged like the oldest."""
        asked = max(_version(kernel), min(_version(series) for series, _ in STACKS))
        return _version(self.kernel) <= asked and not (self.gone and _version(self.gone) <= asked)


@functools.cache
def load() -> dict[str, Deviation]:
    """The rows, by the names under which tests ask for them."""
    return {name: Deviation(**row) for name, row in tomllib.loads(DATA.read_text()).items()}


def page() -> str:
    """docs/deviations.md."""
    columns = [f"{kernel}, {pyverbs}" for kernel, pyverbs in STACKS]
    head = ["rule", "what the rule says", "what rxe does", *columns, "simulated", "test"]
    lines = [head, ["---"] * len(head)]
    for row in load().values():
        seen = ["yes" if row.on(kernel) else "-" for kernel, _ in STACKS]
        lines.append([row.rule, row.says, row.does, *seen, _YES_NO[row.simulated], f"`{row.test}`"])
    return _HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
