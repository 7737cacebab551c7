"""Constants of the verbs and of rdma_cm, from data: names and values of rdma-core's headers, versions 44 to 65."""

from __future__ import annotations

from enum import IntEnum
from importlib.resources import files
from typing import Any


def load(name: str, module: str) -> dict[str, Any]:
    """What a module of constants holds: each enum, each member by its bare name, and numbers of no enum.

    In `data/NAME.txt` an enum's name is followed by its members, indented; those behind `-` belong to none.
    """
    found: dict[str, Any] = {}
    members: dict[str, int] = {}
    enum = ""

    def close() -> None:
        if enum and enum != "-":
            kind = IntEnum(enum, members, module=module)  # type: ignore[misc]
            found[enum] = kind
            found.update(kind.__members__)
        else:
            found.update(members)

    for line in (files(__package__) / "data" / f"{name}.txt").read_text().splitlines():
        if line.startswith(" "):
            member, value = line.split()
            members[member] = int(value)
        else:
            close()
            enum, members = line, {}
    close()
    return found
