"""The notebook of the tutorial runs from end to end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/tutorials/first-predictions.ipynb"


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture
def this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of the interpreter that runs the tests, whatever kernels the machine has."""
    spec = tmp_path / "kernels" / "vea-test"
    spec.mkdir(parents=True)
    arguments = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (spec / "kernel.json").write_text(
        f'{{"argv": {arguments}, "display_name": "vea", "language": "python"}}'
    )
    for variable in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert "vea-test" in KernelSpecManager().find_kernel_specs()
    return "vea-test"


@pytest.mark.integration
def test_the_notebook_runs_from_end_to_end(this_python: str) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name=this_python,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    asyncio.run(client.async_execute())
    text = printed(notebook)
    assert "excitement, positive" in text
    assert "refused (422)" in text
    assert "of the attention" in text


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [
        cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
    ]
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []
