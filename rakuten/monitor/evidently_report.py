"""Evidently's page of a window beside the reference: columns, texts, answers, and their quality where feedback has come.

For looking around in. What alarms are the tests of `rakuten.monitor.drift`, whose false alarms are bounded at any number
of products; Evidently's thresholds are fixed.
"""

import html
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from rakuten.data.files import atomic_write
from rakuten.errors import RakutenError
from rakuten.model.reference import ABSENT, Observations, Reference

PAGE: Final = "evidently_report"  # .html and .json
TEXT: Final = "text"
MIN_TEXTS: Final = 20  # of either side
ANSWER, TRUTH = "answer", "category"  # columns


@dataclass(frozen=True)
class Sides:
    """What is compared; texts by id, of the products whose text is kept."""

    reference: Reference
    window: Observations
    reference_texts: Mapping[str, str] = field(default_factory=dict)
    window_texts: Mapping[str, str] = field(default_factory=dict)


def write_page(folder: Path, sides: Sides, figures: Path, title: str) -> Path:
    """Write evidently_report.html and .json, each whole or not at all; the path of the page. `figures` is linked to.

    Raises:
        RakutenError: Evidently fails at these data.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and its libraries' about columns that are constant
        try:
            drift, notes = _drift(sides)
            quality, more = _quality(sides)
            widgets = {"Drift": drift, "Quality of the answers that feedback has come for": quality}
            page = _html({name: each for name, each in widgets.items() if each is not None})
        except (ValueError, KeyError, TypeError, IndexError, ArithmeticError, AttributeError) as error:
            raise RakutenError(
                "Evidently cannot make a page of this window",
                got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                fix="evidently_dir=null leaves it out; all figures that count are in drift.json",
            ) from error
    notes = (*notes, *more)
    path = folder / f"{PAGE}.html"
    with atomic_write(path) as partial:
        partial.write_text(_introduced(page, title, notes, _link(figures, folder)), encoding="utf-8")
    with atomic_write(path.with_suffix(".json")) as partial:
        values = {"title": title, "notes": notes, **_values(drift, quality)}
        partial.write_text(
            json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
    return path


def _drift(sides: Sides) -> tuple[Any, tuple[str, ...]]:
    """Evidently's snapshot, and what had to be left out."""
    window, reference = _table(sides.window, sides), _table(sides.reference.seen, sides)
    empty = [name for name in window if not window[name].notna().any() or not reference[name].notna().any()]
    notes = [f"left out, since one side has none: {', '.join(empty)}"] if empty else []
    window, reference = window.drop(columns=empty), reference.drop(columns=empty)
    texts = _texts(sides.window, sides.window_texts), _texts(sides.reference.seen, sides.reference_texts)
    if min(each.notna().sum() for each in texts) >= MIN_TEXTS:
        try:
            return _run(window.assign(text=texts[0]), reference.assign(text=texts[1])), tuple(notes)
        except ValueError:  # of its domain classifier, at texts that are all alike
            notes.append("texts are left out: they have too few words in common to be told apart")
    else:
        notes.append("texts are left out: they are compared where the log and the catalogue keep them")
    return _run(window, reference), tuple(notes)


def _run(window: Any, reference: Any) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in window if window[name].dtype.kind == "f"]
    texts = [TEXT] if TEXT in window else []
    columns = DataDefinition(
        numerical_columns=numbers,
        categorical_columns=[name for name in window if name not in (*numbers, *texts)],
        text_columns=texts,
    )
    sides = (Dataset.from_pandas(each, columns) for each in (window, reference))
    return Report([DataDriftPreset()]).run(*sides)


def _quality(sides: Sides) -> tuple[Any | None, tuple[str, ...]]:
    import pandas as pd
    from evidently import DataDefinition, Dataset, MulticlassClassification, Report
    from evidently.presets import ClassificationPreset

    window = sides.window.take(sides.window.labels >= 0)
    codes = np.array([str(code) for code in sides.reference.codes], dtype=object)
    tables = [
        pd.DataFrame({TRUTH: codes[side.labels], ANSWER: codes[side.predicted]})
        for side in (window, sides.reference.seen)
    ]
    if not len(window):
        return None, ("no feedback: the answers' quality is unknown",)
    classes = [set(table[TRUTH]) | set(table[ANSWER]) for table in tables]
    # It takes two classes for yes and no, whatever they are called.
    if 2 in map(len, classes):
        return None, (
            f"{len(window)} products with feedback are of two classes alone: drift.json has their accuracy",
        )
    notes = []
    if new := sorted(classes[0] - classes[1]):
        # It stumbles over a class that the reference lacks.
        notes.append(f"quality stands alone, since no held-out product is of {', '.join(new)}")
        tables = tables[:1]
    columns = DataDefinition(
        classification=[MulticlassClassification(target=TRUTH, prediction_labels=ANSWER)],
        categorical_columns=[TRUTH, ANSWER],
    )
    datasets = [Dataset.from_pandas(table, columns) for table in tables]
    return Report([ClassificationPreset()]).run(*datasets), tuple(notes)


def _table(side: Observations, sides: Sides) -> Any:
    import pandas as pd

    codes = np.array([str(code) for code in sides.reference.codes], dtype=object)
    columns: dict[str, Any] = {
        ANSWER: codes[side.predicted],
        "confidence": side.confidence.astype(np.float64),
    }
    for name, numbers in side.numbers.items():
        columns[name] = np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float64)
    for name, flags in side.flags.items():
        columns[name] = np.where(flags, "yes", "no").astype(object)
    for name, values in side.categories.items():
        columns[name] = [None if each == ABSENT else each for each in values.tolist()]
    return pd.DataFrame(columns)


def _texts(side: Observations, texts: Mapping[str, str]) -> Any:
    import pandas as pd

    # The page holds them within a script, which a customer's markup must not end.
    found = [texts.get(each, "").replace("<", " ").strip() or None for each in side.ids.tolist()]
    return pd.Series(found, dtype=object)


def _html(snapshots: Mapping[str, Any]) -> str:
    """One page of several snapshots, each of which would be one of its own."""
    from evidently.core.metric_types import render_widgets
    from evidently.legacy.renderers.html_widgets import group_widget

    groups = [group_widget(title=name, widgets=each._widgets) for name, each in snapshots.items()]
    page: str = render_widgets(groups)
    return page


def _introduced(page: str, title: str, notes: tuple[str, ...], link: str) -> str:
    """With our lines above Evidently's."""
    lines = [f"<strong>{html.escape(title)}</strong>"]
    lines.append(
        "What alarms here are not Evidently's thresholds, which are fixed, but the tests of"
        f' <a href="{html.escape(link)}">drift.json</a>, which keep their rate of false alarms at any size.'
    )
    lines += [html.escape(note[:1].upper() + note[1:]) + "." for note in notes]
    intro = "".join(f'<p style="margin:8px 24px;font-family:sans-serif">{line}</p>' for line in lines)
    head, body, rest = page.partition("<body>")
    assert body, "Evidently's page has no body"
    head = head.replace("</head>", f"<title>{html.escape(title)}</title></head>", 1)
    return f"{head}{body}{intro}{rest}"


def _values(drift: Any, quality: Any | None) -> dict[str, Any]:
    from evidently.legacy.utils import NumpyEncoder

    values = {
        name: None if each is None else each.dict()["metrics"]
        for name, each in (("drift", drift), ("quality", quality))
    }
    # NaN is no JSON; None says the same.
    plain: dict[str, Any] = json.loads(json.dumps(values, cls=NumpyEncoder), parse_constant=lambda _: None)
    return plain


def _link(figures: Path, folder: Path) -> str:
    return Path(os.path.relpath(figures.absolute(), folder.absolute())).as_posix()
