"""Constants of the verbs, by their names in infiniband/verbs.h (module pyverbs.enums, newer libibverbs_enums)."""

from typing import Any

from simmig.verbs.pyverbs import constants

globals().update(constants.load("libibverbs", __name__))


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module pyverbs.enums has no {name}")
