"""Constants of rdma_cm, by their names in rdma/rdma_cma.h (module pyverbs.cm_enums, librdmacm_enums since 48)."""

from typing import Any

from simmig.verbs.pyverbs import constants

globals().update(constants.load("librdmacm", __name__))


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module pyverbs.cm_enums has no {name}")
