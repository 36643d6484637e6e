"""Any CSV of products -> a CSV of predictions, row by row in order, in memory that does not grow with rows."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from rich.console import Console

from rakuten.config import PredictConfig
from rakuten.data.files import atomic_write
from rakuten.data.preprocess import Product
from rakuten.data.progress import progress_bar
from rakuten.data.raw import Reason, Record, find_table, image_path, read_table
from rakuten.data.validate import is_id
from rakuten.errors import DataError
from rakuten.experiment.device import best_device
from rakuten.experiment.runs import newest_bundle
from rakuten.model.bundle import Answer, Predictor

NO_INFORMATION = "neither text nor a readable photo: the answer is the most frequent kind of product"


@dataclass(frozen=True)
class Predicted:
    """What predict() did: where the answers are, how many, and what was odd about the rows, by kind."""

    output: Path
    num_rows: int
    problems: dict[str, int]


def predict(config: PredictConfig, console: Console) -> Predicted:
    """One answer per row of `config.input`, also for rows that cannot be read: none is lost, a `problem` says why.

    The output appears when it is whole. Columns: index, productid, predicted_prdtypecode, confidence, the further
    codes of the top k with their confidence, problem; or, as the challenge's form, index and code alone.

    Raises:
        RakutenError: no bundle, no such input, input without the catalogue's columns, or nowhere to write to.
    """
    predictor = Predictor.load(config.bundle or newest_bundle(config.outputs_dir), best_device())
    source = _input(config)
    images = _images(config, predictor, console)
    output = config.output or config.data.processed_dir / "predictions.csv"
    columns = {name: getattr(config.data.columns, name) for name in _COLUMNS}
    # The first pass costs next to nothing beside the answers, and the bar knows its end.
    total = sum(1 for _ in read_table(source, columns, config.data.encoding, optional=_OPTIONAL))
    records = read_table(source, columns, config.data.encoding, optional=_OPTIONAL)
    problems: Counter[str] = Counter()
    with _writing(output) as file, progress_bar(console) as bar:
        task = bar.add_task("predicting", total=total)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_header(config))
        for record, answer, problem in _answers(records, predictor, images, config):
            if problem:
                problems[problem.split(":")[0]] += 1
            writer.writerow(_row(record, answer, problem, config))
            bar.advance(task)
    return Predicted(output, total, dict(problems))


def _input(config: PredictConfig) -> Path:
    if config.input is None:
        return find_table(config.data, "x_test")
    if config.input.exists() and not config.input.is_file():
        raise DataError(
            f"input={config.input} is not a file",
            expected="a CSV file: it is read twice, which a pipe or a folder cannot be",
            fix="save it to a file first",
        )
    return config.input


def _images(config: PredictConfig, predictor: Predictor, console: Console) -> Path:
    """The folder of photos. One that was named must be there; the catalogue's own need not, and it is said so."""
    if config.images is not None and not config.images.is_dir():
        raise DataError(f"images={config.images} is not a folder", expected="the folder of the photos")
    images = config.images or config.data.root / config.data.files.images_test
    if predictor.preprocessor.image_px is not None and not images.is_dir():
        console.print(f"[yellow]no photos at {images}: the answers are from text alone[/yellow]")
    return images


@contextmanager
def _writing(output: Path) -> Iterator[TextIO]:
    if output.is_dir():
        raise DataError(f"output={output} is a folder", expected="the name of a CSV file")
    try:
        with atomic_write(output) as path, path.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise DataError(f"{output} cannot be written", got=error, fix="output=FILE elsewhere") from error


_COLUMNS = ("index", "designation", "description", "productid", "imageid")
_OPTIONAL = ("description", "productid", "imageid")


def _answers(
    records: Iterable[Record], predictor: Predictor, images: Path, config: PredictConfig
) -> Iterator[tuple[Record, Answer, str]]:
    records = iter(records)
    with ThreadPoolExecutor(max(1, config.num_workers)) as pool:
        while chunk := list(islice(records, config.batch_size)):
            products = [_product(record, images, config) for record in chunk]
            # Photos decode side by side; Pillow lets go of the interpreter while it does.
            examples = [
                each
                for part in pool.map(lambda product: predictor.preprocessor([product]), products)
                for each in part
            ]
            answers = predictor.answer(examples, top_k=max(1, config.top_k))
            for record, product, answer, example in zip(chunk, products, answers, examples, strict=True):
                yield (
                    record,
                    answer,
                    _problem(record, product, answer, example.tokens is None and example.pixels is None),
                )


def _product(record: Record, images: Path, config: PredictConfig) -> Product:
    """What can be made out of a row. A photo that is not there is a state of a product, not a fault of the row."""
    fields = record.fields
    path = None
    needed = [name for name in ("imageid", "productid") if f"{{{name}}}" in config.data.files.image_name]
    if record.reason is None and all(is_id(fields[name]) for name in needed):
        path = image_path(images, config.data.files, fields["imageid"], fields["productid"])
    photo = path if path is not None and path.is_file() else None
    return Product(fields.get("designation"), fields.get("description"), photo)


def _problem(record: Record, product: Product, answer: Answer, blind: bool) -> str:
    if record.reason is not None:
        return f"{record.reason.sentence}: line {record.line}"
    if (imageid := record.fields["imageid"]) and not is_id(imageid):
        return Reason.BAD_IMAGEID.sentence
    if blind:
        return NO_INFORMATION
    return answer.image_problem or ""


def _header(config: PredictConfig) -> list[str]:
    code = f"predicted_{config.data.columns.label}"
    if config.submission:
        return [config.data.columns.index, config.data.columns.label]
    further = [name for k in range(2, config.top_k + 1) for name in (f"code_{k}", f"confidence_{k}")]
    return ["index", "productid", code, "confidence", *further, "problem"]


def _row(record: Record, answer: Answer, problem: str, config: PredictConfig) -> list[object]:
    index = record.fields.get("index", "")
    if config.submission:
        return [index, answer.code]
    further = [cell for code, confidence in answer.top[1:] for cell in (code, f"{confidence:.6f}")]
    padding = [""] * (2 * (config.top_k - len(answer.top)))
    productid = record.fields.get("productid", "")
    return [index, productid, answer.code, f"{answer.confidence:.6f}", *further, *padding, problem]
