"""What a drift alarm may start where people said so: new labels, a training, and the gate's decision."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter

from rakuten.config import DagConfig, WatchConfig
from rakuten.data.encoding import opened
from rakuten.data.raw import find_table, image_path
from rakuten.errors import DataError, RakutenError
from rakuten.monitor.job import log_at
from rakuten.monitor.labelled import LabelledProduct, labelled_products, labels_in
from rakuten.monitor.retraining import PROPOSAL, trained
from rakuten.pipeline.stages import CHOICE, StageError

FOLDER = "retraining"  # below outputs_dir
SCRIPTS = Path(__file__).parents[2] / "scripts"
REFUSED = 3  # exit code of scripts/promote.py
_OUR_ERROR_LINES = 12

Say = Callable[[str], object]


class TooFewLabelsError(RakutenError):
    """There is nothing new to learn from."""


@dataclass(frozen=True)
class Retrained:
    """What came of it."""

    at: str  # ISO 8601, UTC
    labels: int  # products with feedback in the catalogue that was trained on
    bundle: str
    verdict: Literal["promoted", "refused"]
    reasons: str  # of the gate


def require_new_labels(config: WatchConfig, version: str) -> int:
    """The number of labelled products that would be added; 0 where the catalogue itself has the new ones.

    Raises:
        TooFewLabelsError: too few, or none more than at the last training of this version's drift.
    """
    if not config.add_feedback:
        return 0
    with log_at(config.log) as database:
        labels = labels_in(database)
    last = trained(config.outputs_dir / PROPOSAL, version)
    known = 0 if last is None else int(last["labels"])
    if labels.kept < config.min_labels or labels.kept <= known:
        raise TooFewLabelsError(
            "nothing is trained: there are too few new labels",
            expected=f"{max(config.min_labels, known + 1):,} products with feedback whose text or photo is kept",
            got=f"{labels.kept:,} of {labels.given:,} with feedback",
            fix="log_texts and log_images of conf/serve.yaml keep them; or add_feedback=false data.root=PATH of a"
            " catalogue that has the new labels",
        )
    return labels.kept


def extended_catalogue(config: WatchConfig, folder: Path) -> int:
    """The catalogue with the log's labelled products, in its own layout below `folder`; how many were added.

    Its photos are links. A product whose category the catalogue does not have is left out.

    Raises:
        DataError: the catalogue is not there, or has no column for something.
        RakutenError: the log is away.
    """
    data = config.data
    images, new_images = (root / data.files.images_train for root in (data.root, folder))
    new_images.mkdir(parents=True)
    for entry in os.scandir(images) if images.is_dir() else ():
        (new_images / entry.name).symlink_to(Path(entry.path).absolute())
    others = data.root / data.files.images_test
    if others.is_dir():
        (folder / data.files.images_test).parent.mkdir(parents=True, exist_ok=True)
        (folder / data.files.images_test).symlink_to(others.absolute())
    x_test = find_table(data, "x_test")
    (folder / x_test.name).symlink_to(x_test.absolute())
    added = 0
    with ExitStack() as stack:
        database = stack.enter_context(log_at(config.log))
        write_x, write_y = (
            stack.enter_context(_Table(find_table(data, name), folder, data.encoding)).write
            for name in ("x_train", "y_train")
        )
        columns = data.columns
        for product in labelled_products(database):
            if data.labels.parse(product.code) is None:
                continue
            row = _row(product)
            write_x({getattr(columns, key): value for key, value in row.items()})
            write_y({columns.index: row["index"], columns.label: product.code})
            if product.image is not None:
                image_path(new_images, data.files, row["imageid"], row["productid"]).write_bytes(
                    product.image
                )
            added += 1
    return added


def train_and_judge(config: WatchConfig, say: Say) -> Retrained:
    """Train what conf/pipeline.yaml says on the labels there are now, and let the gate decide.

    Raises:
        StageError: one of the two scripts failed, in its own words. To be refused is no failure.
        DataError: the pipeline is set to another catalogue.
    """
    dag = _dag(config)
    now = datetime.now(UTC)
    folder = config.outputs_dir / FOLDER / now.strftime("%Y%m%d-%H%M%S")
    root, labels = config.data.root, 0
    if config.add_feedback:
        root = folder / "catalogue"
        labels = extended_catalogue(config, root)
        say(f"{labels:,} labelled products of the log are added to {config.data.root}: {root}")
    shared = [
        f"data={dag.data}",
        f"data.root={root}",
        f"data.cache_dir={folder / 'cache'}",
        f"data.interim_dir={folder / 'interim'}",
        f"data.processed_dir={folder / 'processed'}",
        f"tracking={dag.tracking}",
        f"outputs_dir={config.outputs_dir}",
    ]
    told, code = _run(
        "train",
        [*shared, f"model={dag.model}", f"trainer={dag.trainer}", f"experiment={dag.experiment}"],
        say,
    )
    if code:
        raise _failure("train", told, code)
    bundle = told[-1].strip()
    chosen = [f"run={Path(bundle).parent}", f"registered_model={config.registered_model}"]
    told, code = _run("promote", [*shared, *chosen], say)
    if code not in (0, REFUSED):
        raise _failure("promote", told, code)
    verdict: Literal["promoted", "refused"] = "refused" if code else "promoted"
    reasons = "\n".join(line for line in told if line.strip())
    return Retrained(now.isoformat(timespec="seconds"), labels, bundle, verdict, reasons if code else "")


class _Table:
    """A copy of a CSV file that rows are added to, in the order of its own header."""

    def __init__(self, source: Path, folder: Path, encoding: str):
        self._target = folder / source.name
        with opened(source, encoding) as stream:
            text = stream.read()
        self._header = next(csv.reader([text.partition("\n")[0]]))
        self._file = self._target.open("w", encoding=encoding, errors="surrogateescape", newline="")
        self._file.write(text if text.endswith("\n") else f"{text}\n")
        self._writer = csv.DictWriter(self._file, self._header, restval="", lineterminator="\n")

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, str]) -> None:
        unknown = sorted(set(row) - set(self._header))
        if unknown:
            raise DataError(f"{self._target.name} has no column {', '.join(map(repr, unknown))}")
        self._writer.writerow(row)


def _row(product: LabelledProduct) -> dict[str, str]:
    """By this project's names. A prediction has no ids of a shop, so it stands for them itself."""
    name = f"fb-{product.prediction_id}"
    return {
        "index": name,
        "designation": product.designation or "",
        "description": product.description or "",
        "productid": name,
        "imageid": name,
    }


def _dag(config: WatchConfig) -> DagConfig:
    if not CHOICE.is_file():
        raise RakutenError(f"there is no {CHOICE} here", fix="start it in the project's folder")
    own = yaml.safe_load(CHOICE.read_text(encoding="utf-8"))["dag"]
    dag: DagConfig = TypeAdapter(DagConfig).validate_python(own)
    if dag.data != config.data.name:
        raise DataError(
            "another catalogue is to be trained on than the pipeline is set to",
            expected=f"data={dag.data}, as {CHOICE} says",
            got=f"data={config.data.name}",
        )
    return dag


def _run(script: str, arguments: list[str], say: Say) -> tuple[list[str], int]:
    """What it printed, stdout last; and its exit code."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        lines = list(_lines(process, say))
        return lines, process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _lines(process: "subprocess.Popen[str]", say: Say) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        say(line.rstrip("\n"))
        yield line.rstrip("\n")


def _failure(script: str, told: list[str], code: int) -> StageError:
    return StageError(script, "\n".join([line for line in told if line.strip()][-_OUR_ERROR_LINES:]), code)
