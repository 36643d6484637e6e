"""The notebooks: committed without output, and running from top to bottom on a tiny demo."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from rakuten.cli import compose
from rakuten.console import people

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CATALOGUE, COMPARE = NOTEBOOKS / "01_catalogue.ipynb", NOTEBOOKS / "02_compare_runs.ipynb"
DEMO = ["data=demo", "data.demo.num_products=400", "data.demo.num_unlabelled=40", "data.demo.image_px=32"]
TINY = ["model.text.num_buckets=512", "model.text.embedding_dim=16", "model.image.image_px=32"]
LOOP = ["trainer=cpu", "tracking=local", "trainer.max_epochs=1", "trainer.min_epochs=0", "bootstrap=20"]
SHELL_LIKE = " ".join([*DEMO, *TINY])


def execute(notebook: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, overrides: str) -> str:
    """All that the notebook shows when it is run in `folder`: text, HTML, and a word for each figure."""
    monkeypatch.setenv("RAKUTEN_OVERRIDES", overrides)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return "\n".join(_shown(output) for cell in content.cells for output in cell.get("outputs", []))


def _shown(output: Any) -> str:
    data = output.get("data", {})
    texts = [
        output.get("text", ""),
        *(str(data.get(f"text/{kind}", "")) for kind in ("plain", "html", "markdown")),
    ]
    return "\n".join([f"{output.get('name', '')}:", *texts, "FIGURE" if "image/png" in data else ""])


@pytest.mark.parametrize("path", [CATALOGUE, COMPARE], ids=lambda path: path.stem)
def test_committed_without_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 3
    assert [cell.outputs for cell in code] == [[]] * len(code), "clear all output: it may hold licensed data"
    assert [cell.execution_count for cell in code] == [None] * len(code)
    assert not any(cell.get("attachments") for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"


def test_no_other_notebook_escapes_these_tests() -> None:
    assert sorted(NOTEBOOKS.glob("**/*.ipynb")) == [CATALOGUE, COMPARE]


@pytest.mark.acceptance
def test_compare_says_what_to_do_where_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CellExecutionError) as raised:
        execute(COMPARE, tmp_path, monkeypatch, SHELL_LIKE)
    assert "No finished run of the catalogue 'demo'" in str(raised.value)
    assert "python scripts/train.py" in str(raised.value)
    assert list(tmp_path.iterdir()) == [], "looking must not create a store"


@pytest.mark.acceptance  # a minute of kernels, each night: what the notebooks call has tests of its own
def test_both_run_on_a_tiny_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rakuten.data.demo import ensure_demo
    from rakuten.experiment.train import train

    monkeypatch.chdir(tmp_path)
    ensure_demo(compose("train", DEMO).data)
    with (tmp_path / "data/demo/Y_train.csv").open("a", encoding="utf-8") as file:
        file.write("999999999,10\n")
    bundles = [
        train(compose("train", [*DEMO, *TINY, *LOOP, f"seed={seed}", "trainer.threads=1"]), people())
        for seed in (0, 1)
    ]

    catalogue = execute(CATALOGUE, tmp_path, monkeypatch, SHELL_LIKE)
    assert catalogue.count("FIGURE") == 8
    assert "400 of X_train.csv" in catalogue
    assert "label_without_product" in catalogue
    assert "999999999" in catalogue
    assert "stderr:" not in catalogue

    compared = execute(COMPARE, tmp_path, monkeypatch, SHELL_LIKE)
    assert compared.count("FIGURE") == 4
    assert "**2** runs shown" in compared
    for bundle in bundles:
        assert bundle.parent.name[-6:] in compared
    assert "seed" in compared, "the one setting that differs"
    assert "stderr:" not in compared
    assert {path.name for path in tmp_path.iterdir()} == {"data", "outputs"}
