"""What every word of simmig means: keys, policies, figures, rules; for `simmig explain`, the docs and editors."""

from simmig.experiment.reference.catalogue import Entry, catalogue, find
from simmig.experiment.reference.json_schema import json_schema
from simmig.experiment.reference.page import page, terminal

__all__ = ["Entry", "catalogue", "find", "json_schema", "page", "terminal"]
