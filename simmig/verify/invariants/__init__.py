"""What must be true of every migration, checked on its trace as it streams by."""

from simmig.verify.invariants.base import Invariant, Violation
from simmig.verify.invariants.check import CATALOGUE, Invariants, read_violations

__all__ = ["CATALOGUE", "Invariant", "Invariants", "Violation", "read_violations"]
