"""What must be true of every migration, checked on its trace as it streams by."""

from simmig.verify.invariants.base import Invariant
from simmig.verify.invariants.check import CATALOGUE, Invariants, read_violations
from simmig.verify.verdict import Violation

__all__ = ["CATALOGUE", "Invariant", "Invariants", "Violation", "read_violations"]
