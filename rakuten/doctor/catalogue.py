"""The catalogue and the weights: are they on disk, and are they what their config says?"""

import hashlib
from itertools import islice
from pathlib import Path

from rakuten.config import DataConfig, ModelConfig, TimmConfig, TransformerConfig
from rakuten.data.raw import find_table, image_path, read_table
from rakuten.data.validate import is_id
from rakuten.doctor.check import Finding, ok, skipped, warning
from rakuten.errors import DataError
from rakuten.model.pretrained import require_weights

SAMPLE = 200  # rows whose photos are looked for
# The challenge's whole catalogue, as it was published.
FULL_X_TRAIN_BYTES = 54_129_120
FULL_MD5 = {
    "x_train": "c936389910c88bb29bf2c438af3476df",
    "y_train": "52d45c998ddc0c10f05987bb233ff5e7",
    "x_test": "d52ec4a79f8f01da099bd3bca4c619d1",
}


def check_catalogue(data: DataConfig, needs_photos: bool) -> Finding:
    """Tables with their columns, and the photos of the first products.

    Raises:
        DataError: a table is missing or is not what the config says.
    """
    if data.demo is not None and not data.root.exists():
        return skipped(f"the demo is generated into {data.root} by the first run")
    columns = data.columns
    names = ("index", "designation", "description", "productid", "imageid")
    x_train, y_train = find_table(data, "x_train"), find_table(data, "y_train")
    rows = list(
        islice(read_table(x_train, {name: getattr(columns, name) for name in names}, data.encoding), SAMPLE)
    )
    next(read_table(y_train, {"index": columns.index, "label": columns.label}, data.encoding))
    told = f"{data.root}: {x_train.name} and {y_train.name}"
    try:
        told += f" and {find_table(data, 'x_test').name}"
    except DataError as missing:
        return warning(f"{told}; {missing.problem}", "put it there, or predict with input=FILE.csv")
    if not needs_photos:
        return ok(f"{told}; the model looks at no photos")
    ids = [(row.fields["imageid"], row.fields["productid"]) for row in rows if row.reason is None]
    folder = data.root / data.files.images_train
    paths = [image_path(folder, data.files, *pair) for pair in ids if all(map(is_id, pair))]
    there = sum(path.is_file() for path in paths)
    told += f"; {there} of the first {len(paths)} photos"
    if 2 * there >= len(paths):
        return ok(told)
    where = (
        f"in {folder}, the first looked for being {paths[0].name}"
        if folder.is_dir()
        else f"and there is no {folder}"
    )
    return warning(
        f"{told} {where}", "put them there, say where they are under data.files, or train with model=text"
    )


def check_sums(data: DataConfig) -> Finding:
    """Damage on the way: a file of the right size that is not the published one."""
    if data.name != "rakuten":
        return skipped("known for the challenge's catalogue alone")
    try:
        paths = {table: find_table(data, table) for table in ("x_train", "y_train", "x_test")}
    except DataError as missing:
        return skipped(missing.problem)
    if paths["x_train"].stat().st_size != FULL_X_TRAIN_BYTES:
        return skipped(f"{paths['x_train']} is not the whole catalogue, by its size")
    wrong = [str(path) for table, path in paths.items() if _md5(path) != FULL_MD5[table]]
    if wrong:
        return warning(
            f"{', '.join(wrong)}: not what the challenge published (md5 differs)",
            "download it again, unless it was changed on purpose",
        )
    return ok("the challenge's three tables, byte for byte")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_weights(model: ModelConfig) -> Finding:
    """
    Raises:
        WeightsError: they are neither on disk nor to be fetched.
    """
    require_weights(model)
    names = []
    if isinstance(model.text, TransformerConfig) and model.text.pretrained:
        names.append(model.text.name)
    if isinstance(model.image, TimmConfig) and (model.image.pretrained or model.image.checkpoint):
        names.append(str(model.image.checkpoint or model.image.name))
    if not names:
        return ok(f"model={model.name} trains from scratch")
    return ok(f"{' and '.join(names)}: on disk or to be fetched")
