"""Run the notebooks from top to bottom and keep what they give: `make notebooks`."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Run one in place; an error in a cell is raised, and the file stays as it was."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran: another every time
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    for path in sorted(HERE.glob("*.ipynb")):
        print(path.name, flush=True)
        execute(path)
