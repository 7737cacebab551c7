"""Make docs/reference.md anew, from the schema and the code: `python docs/reference.py`."""

from pathlib import Path

from simmig.experiment.reference import page

if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
