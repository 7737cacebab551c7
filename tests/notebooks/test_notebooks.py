"""The notebooks run from top to bottom, and the text that is committed in them is what they give."""

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def told(notebook: Any) -> list[str]:
    """What the cells said, each as a whole, pictures apart."""
    said = []
    for cell in notebook.cells:
        texts = [output for output in cell.get("outputs", ()) if "image/png" not in output.get("data", {})]
        said.append("".join(each.get("text") or each.get("data", {}).get("text/plain", "") for each in texts))
    return said


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the machinery that runs cells, not of simmig
def test_a_notebook_gives_what_is_kept_in_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    kept = told(notebook)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert told(notebook) == kept, "`make notebooks` writes them anew"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_what_it_gave(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert not [output for output in cell.outputs if output.output_type == "error"]
