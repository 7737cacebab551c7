"""Shared receive queues (module pyverbs.srq): not modelled."""

from __future__ import annotations

from simmig.verbs.sim.base import NotModelled


class SRQ(NotModelled):
    """A shared receive queue."""


class SrqInitAttr(NotModelled):
    """What one is created with."""


class SrqAttr(NotModelled):
    """Its limits."""
