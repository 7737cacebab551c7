"""Has `import pyverbs` and all below it find the simulated devices' modules."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from simmig.verbs.pyverbs import absent, session, sysfs

ADDRESS = "SIMMIG_PYVERBS"
"""The variable that tells a program where its world is served."""
_OURS = "simmig.verbs.pyverbs"
_RENAMED = {
    "libibverbs_enums": "enums",
    "librdmacm_enums": "cm_enums",
    "libibverbs": "enums",
    "librdmacm": "cm_enums",
}
_INTERNAL = {
    "session",
    "world",
    "remote",
    "server",
    "others",
    "wakeup",
    "cm_parameters",
    "wire",
    "finder",
    "sysfs",
    "absent",
    "constants",
    "stub",
    "launch",
}


class _Loader(Loader):
    """Gives the module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        pass


class Finder(MetaPathFinder):
    """Finds `pyverbs.X` as `simmig.verbs.pyverbs.X`; what a device lacks, as modules of `absent` names."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """A module of that name, None when it is not pyverbs'."""
        if fullname != "pyverbs" and not fullname.startswith("pyverbs."):
            return None
        rest = fullname.partition(".")[2]
        rest = _RENAMED.get(rest, rest)
        if rest in _INTERNAL:
            return None
        if rest.startswith("providers"):
            module = absent.module(fullname)
        else:
            try:
                module = importlib.import_module(f"{_OURS}.{rest}" if rest else _OURS)
            except ModuleNotFoundError as error:
                if error.name != f"{_OURS}.{rest}":
                    raise
                return None
        return ModuleSpec(fullname, _Loader(module), is_package=not rest or rest == "providers")


def install() -> Finder:
    """Have imports from now on find them, and forget another pyverbs that has been imported."""
    forget()
    finder = Finder()
    sys.meta_path.insert(0, finder)
    return finder


def forget() -> None:
    """Forget every pyverbs module imported."""
    for name in [name for name in sys.modules if name == "pyverbs" or name.startswith("pyverbs.")]:
        del sys.modules[name]


@contextmanager
def installed() -> Iterator[None]:
    """The same for the length of a block."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "pyverbs"}
    finder = install()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        forget()
        sys.modules.update(before)


def enter() -> None:
    """What the `pyverbs` found first under `simmig pyverbs` does: hand over to the world served for it."""
    address = os.environ.get(ADDRESS)
    if not address:
        raise ImportError(
            f"this pyverbs serves simulated devices, and {ADDRESS} does not say which: use simmig pyverbs"
        )
    session.use_remote(address)
    install()
    sys.modules["pyverbs"] = importlib.import_module(_OURS)
    sysfs.redirect(os.path.dirname(address))
    _let_time_pass_asleep()


def _let_time_pass_asleep() -> None:
    """A program that sleeps gives its devices that long."""
    from simmig.verbs.pyverbs.device import pass_time_asleep  # noqa: PLC0415

    sleep = time.sleep

    def sleep_and_tell(seconds: Any) -> None:
        sleep(seconds)
        pass_time_asleep(seconds)

    time.sleep = sleep_and_tell
