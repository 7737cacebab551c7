"""A program under simulated devices: its world, what is laid out for it in a directory, its environment."""

from __future__ import annotations

import os
import site
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from simmig.verbs.pyverbs import finder, session, sysfs
from simmig.verbs.pyverbs.server import Server
from simmig.verbs.pyverbs.world import DEFAULT_LINK, World
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import IDEAL, Profile

_STUB = Path(__file__).with_name("stub")


@contextmanager
def simulated(
    devices: int | Sequence[str] = 2, profile: Profile = IDEAL, link: LinkSpec = DEFAULT_LINK, seed: int = 0
) -> Iterator[World]:
    """`import pyverbs` gives simulated devices within the block, in this process alone."""
    world = World(profile, devices, link, seed)
    before = session.use(world)
    try:
        with finder.installed():
            yield world
    finally:
        session.use(before)


@contextmanager
def served(
    devices: int | Sequence[str] = 2, profile: Profile = IDEAL, link: LinkSpec = DEFAULT_LINK, seed: int = 0
) -> Iterator[Mapping[str, str]]:
    """The environment in which programs find simulated devices, all of them the same ones."""
    with tempfile.TemporaryDirectory(prefix="simmig-pyverbs-") as name:
        below = Path(name)
        world = World(profile, devices, link, seed)
        world.directory = name
        sysfs.write(world, below)
        address = str(below / "world")
        server = Server(world, address)
        environment = dict(os.environ)
        root = str(Path(__file__).parents[3])
        paths = [str(_STUB), root, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment["SIMMIG_PYVERBS_SITE"] = os.pathsep.join(site.getsitepackages())
        environment["PATH"] = os.pathsep.join([str(below / "bin"), environment.get("PATH", os.defpath)])
        environment[finder.ADDRESS] = address
        try:
            yield environment
        finally:
            server.close()
