"""Words of memory as a device sees them (module pyverbs.dma_util)."""

from simmig.verbs.pyverbs.mem_alloc import read32, read64, writebe32, writebe64

__all__ = ["read32", "read64", "writebe32", "writebe64"]
