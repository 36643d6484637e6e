"""The report folder: complete, self-contained, safe with any class names, never half-written."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rakuten.data.labels import LabelSet
from rakuten.errors import DataError
from rakuten.experiment import report
from rakuten.experiment.metrics import METRICS, Predictions, score
from rakuten.experiment.report import FILES, write_report

# What another test leaves to the garbage collector is not this module's warning.
pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LABELS = LabelSet((10, 40, 2905), ("Livres d'occasion", "Jeux vidéo", "Épicerie fine"))


def sampled(num_rows: int, num_classes: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_rows)
    logits = rng.normal(size=(num_rows, num_classes)) + 2 * np.eye(num_classes)[labels]
    probs = np.exp(logits)
    rows = np.array([f"row{i}" for i in range(num_rows)], dtype=str)
    return Predictions(labels, probs / probs.sum(axis=1, keepdims=True), rows)


def write(folder: Path, labels: LabelSet = LABELS, **changes: Any) -> dict[str, dict[str, float | None]]:
    num_classes = len(labels)
    arguments: dict[str, Any] = {
        "by_modality": {key: sampled(80, num_classes, i) for i, key in enumerate(["image", "both", "text"])},
        "title": "Evaluation",
        "facts": {"Run": "r1", "Commit": "abc123"},
        "limits": None,
        "num_resamples": 20,
        "seed": 0,
    } | changes
    return write_report(folder, arguments.pop("by_modality"), labels, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on all three modalities, with limits for two of them."""
    path = tmp_path_factory.mktemp("report") / "evaluation"
    write(path, limits={"both": 0.9, "text": 0.7})
    return path


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._skip = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._skip else data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_folder_is_complete_and_scores_are_those_of_score(tmp_path: Path) -> None:
    by_modality = {"text": sampled(60, 3, 1), "both": sampled(80, 3, 2)}
    scores = write(tmp_path / "new" / "évaluation (1)", by_modality=by_modality)
    folder = tmp_path / "new" / "évaluation (1)"
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    assert scores == {"both": score(by_modality["both"]), "text": score(by_modality["text"])}
    assert list(scores) == ["both", "text"]
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(folder / name) as image:
                image.verify()


def test_json_holds_scores_intervals_and_counts(folder: Path) -> None:
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert written["facts"] == {"Run": "r1", "Commit": "abc123"}
    assert written["modalities"]["both"]["best_possible_accuracy"] == 0.9
    assert written["modalities"]["image"]["best_possible_accuracy"] is None
    for key, entry in written["modalities"].items():
        assert entry["num_rows"] == 80
        values = {name: entry["scores"][name]["value"] for name in METRICS}
        assert values == score(sampled(80, 3, ["image", "both", "text"].index(key)))
        assert all(value["low"] <= value["value"] <= value["high"] for value in entry["scores"].values())


def test_csv_files_are_of_the_headline_modality_and_hold_codes(tmp_path: Path) -> None:
    given = sampled(30, 3, 5)
    write(tmp_path / "e", by_modality={"image": sampled(80, 3), "text": given})
    with (tmp_path / "e/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == given.rows.tolist()
    assert [row["true_code"] for row in rows] == [str(LABELS.codes[i]) for i in given.labels]
    assert [row["predicted_code"] for row in rows] == [str(LABELS.codes[i]) for i in given.predicted]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(given.confidence, abs=1e-6)
    with (tmp_path / "e/per_class.csv").open(encoding="utf-8", newline="") as file:
        classes = list(csv.DictReader(file))
    assert [row["name"] for row in classes] == list(LABELS.names)
    assert sum(int(row["support"]) for row in classes) == 30


def test_page_needs_nothing_from_outside(folder: Path) -> None:
    page = page_of(folder)
    links = [
        a.get(name) or "" for _, a in page.tags for name in ("src", "href", "srcset", "action") if name in a
    ]
    assert len(links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not page.all("link")
    assert "url(" not in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "report.html").stat().st_size < 2_000_000


def test_page_is_accessible(folder: Path) -> None:
    page = page_of(folder)
    assert page.all("html")[0]["lang"] == "en"
    assert all(len(image["alt"] or "") > 20 for image in page.all("img"))
    assert len(page.all("img")) == len(page.all("figcaption")) == 4
    assert len(page.all("table")) == len(page.all("caption")) == 3
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_page_says_what_matters(folder: Path) -> None:
    modalities = json.loads((folder / "report.json").read_text(encoding="utf-8"))["modalities"]
    text = page_of(folder).text
    assert f"{modalities['both']['scores']['weighted_f1']['value']:.3f}" in text
    assert f"{modalities['image']['scores']['weighted_f1']['value']:.3f}" in text
    assert re.search(r"[\d.]+\s%of 0\.900", text)
    assert "Jeux vidéo taken for" in text
    assert "abc123" in text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    labels = LabelSet(("<b>", "b"), (hostile, '"><img src=http://x.example/a.png onerror=alert(1)>'))
    write(tmp_path / "e", labels, title=hostile, facts={hostile: "{{ 7 * 7 }} <script>"})
    page = page_of(tmp_path / "e")
    assert len(page.all("script")) == 1  # the page's own
    assert len(page.all("img")) == 4
    assert hostile in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


@pytest.mark.parametrize("num_classes", [2, 60])
def test_any_number_of_classes_and_any_names(tmp_path: Path, num_classes: int) -> None:
    odd = ["", "日本の本", "10 $ à 20 $ \\frac", "Œuvres " * 12, "line\nbreak", "a,b;\"c'", "🎲", "Été_été^2"]
    labels = LabelSet(tuple(range(num_classes)), tuple(odd[i % len(odd)] for i in range(num_classes)))
    write(tmp_path / "e", labels)
    assert (tmp_path / "e/report.html").stat().st_size < 2_000_000
    assert len(page_of(tmp_path / "e").all("tr")) == 1 + 3 + 1 + num_classes + 2


def test_classes_without_rows_and_a_perfect_model(tmp_path: Path) -> None:
    perfect = Predictions(np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]], np.array(["a", "b", "c"]))
    scores = write(tmp_path / "e", by_modality={"both": perfect})
    assert scores["both"]["macro_f1"] == 1
    assert "every row is in its class" in page_of(tmp_path / "e").text


def test_modality_without_rows_is_shown_as_such(tmp_path: Path) -> None:
    empty = Predictions(np.zeros(0, int), np.zeros((0, 3)), np.zeros(0, str))
    scores = write(tmp_path / "e", by_modality={"both": empty, "text": sampled(40, 3)}, limits={"both": 0.9})
    assert scores["both"] == dict.fromkeys(METRICS, None)
    text = (tmp_path / "e/report.json").read_text(encoding="utf-8")
    written = json.loads(text)
    assert "NaN" not in text
    assert written["headline"] == "text"
    assert written["modalities"]["both"]["scores"]["ece"] == {"value": None, "low": None, "high": None}
    with pytest.raises(DataError, match="0 rows"):
        write(tmp_path / "none", by_modality={"both": empty})
    assert not (tmp_path / "none").exists()


def test_no_resamples_no_intervals(tmp_path: Path) -> None:
    write(tmp_path / "e", num_resamples=0)
    written = json.loads((tmp_path / "e/report.json").read_text(encoding="utf-8"))
    assert written["modalities"]["both"]["scores"]["ece"]["low"] is None
    assert "bootstrap" not in page_of(tmp_path / "e").text


def test_same_input_same_files(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "b", limits={"both": 0.9, "text": 0.7})
    assert all((folder / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in FILES)


def test_earlier_report_is_replaced(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "e")
    write(tmp_path / "e", title="second")
    assert json.loads((tmp_path / "e/report.json").read_text())["title"] == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


def test_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.docx"):
        write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_failed_write_leaves_the_earlier_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "e")

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(report, "_write_predictions", full_disk)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "e", title="second")
    assert json.loads((tmp_path / "e/report.json").read_text())["title"] == "Evaluation"
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


def test_unknown_modality_and_wrong_classes_are_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sound"):
        write(tmp_path / "e", by_modality={"sound": sampled(5, 3)})
    with pytest.raises(ValueError, match="3 classes"):
        write(tmp_path / "e", by_modality={"both": sampled(5, 4)})
