"""The features stage: the validated table -> cleaned texts, sides, and the stores that models read."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xxhash
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console

from rakuten.config import DataConfig, ModelConfig, NgramConfig, TimmConfig, TransformerConfig
from rakuten.config_io import to_plain
from rakuten.data.clean import clean
from rakuten.data.files import atomic_write
from rakuten.data.fit_encoder import encoder_settings, fit_encoder, joined
from rakuten.data.images import ImageState
from rakuten.data.ingest import REPORT, ingest, ingest_is_current
from rakuten.data.ingest_report import IngestReport
from rakuten.data.preprocess import Preprocessor
from rakuten.data.raw import image_path
from rakuten.data.split import TRAIN, split
from rakuten.data.store import FeatureStore, build_pixel_store, build_token_store
from rakuten.data.text_encoder import TextEncoder, load_encoder
from rakuten.errors import DataError

FORMAT = 1  # of train_features.csv and the stores: raise it when either changes meaning
TABLE, META, STORE = "train_features.csv", "features.json", "store"  # in processed_dir


@dataclass(frozen=True)
class Features:
    """Preprocessed products, row i of `table` being product i of `store`."""

    table: (
        pd.DataFrame
    )  # index, productid, imageid, prdtypecode, image_state, side, group, designation, description
    labels: NDArray[np.int64]  # (N,) class indices
    store: FeatureStore
    preprocessor: Preprocessor
    fingerprint: str  # of the products, their texts, labels, photos and sides
    sources: dict[str, str]  # hashes of the raw tables and photos, and of the table that was made of them
    data: DataConfig  # with the folders that they were read from

    def rows(self, side: str) -> NDArray[np.int64]:
        """Row numbers of one side."""
        return np.flatnonzero(self.table["side"].to_numpy() == side)


def load_features(
    data: DataConfig,
    model: ModelConfig,
    console: Console | None = None,
    encoder: TextEncoder | None = None,
    *,
    stage: bool = False,
) -> Features:
    """Features for `model`, built on the way where they are missing or stale, and said so.

    `encoder` is a bundle's, where a trained model looks at the catalogue again; else the one that `model` asks for.
    `stage` is the pipeline's stage, which builds in the pipeline's folders.

    A lock per catalogue lets runs that start together share the work. Photos are decoded again only for another size
    or other files; texts are cleaned again only for another table.

    Raises:
        DataError: the catalogue is not what its config says, or was to be built by a stage and is not.
    """
    in_place = stage or data.prepare == "here"
    lock_dir = data.processed_dir if in_place else data.cache_dir
    lock_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_dir / ".lock"):
        if data.prepare == "never" and not stage:
            meta = _stage_meta(data)
        else:
            data = data if in_place or _is_current(data) else _in_cache(data)
            meta = _build_stale_table(data, console)
        table = _read_table(data.processed_dir / TABLE)
        places = (
            [data.processed_dir / STORE] if in_place else [data.processed_dir / STORE, data.cache_dir / STORE]
        )
        store, preprocessor = _build_stores(data, model, table, meta["fingerprint"], console, encoder, places)
    codes = data.labels
    labels = np.array([codes.parse(code) for code in table["prdtypecode"]], dtype=np.int64)
    return Features(table, labels, store, preprocessor, meta["fingerprint"], _sources(data), data)


def _is_current(data: DataConfig) -> bool:
    return ingest_is_current(data)[0] and _read_meta(data) == _expected_meta(data)


def _in_cache(data: DataConfig) -> DataConfig:
    cache = data.cache_dir
    return replace(data, interim_dir=cache / "interim", processed_dir=cache / "processed")  # type: ignore[type-var]


def _stage_meta(data: DataConfig) -> dict[str, str]:
    meta = _read_meta(data)
    if "fingerprint" not in meta or not (data.processed_dir / TABLE).is_file():
        raise DataError(
            "the features are not built",
            expected=data.processed_dir / TABLE,
            fix="build them: dvc repro features, or leave out data.prepare=never",
        )
    return meta


def _build_stale_table(data: DataConfig, console: Console | None) -> dict[str, str]:
    data.processed_dir.mkdir(parents=True, exist_ok=True)
    current, reason = (True, "") if data.prepare == "never" else ingest_is_current(data)
    if not current:
        _say(console, f"ingest: {reason}")
        ingest(data, console=console)
    meta = _expected_meta(data)
    if _read_meta(data) != meta:
        _say(console, "features: the cleaned table is missing or stale")
        _build_table(data, meta)
    return meta


def _sources(data: DataConfig) -> dict[str, str]:
    found: dict[str, str] = IngestReport.load(data.interim_dir / REPORT).fingerprint
    return {name: value for name, value in found.items() if name != "images_listing"}  # of this machine alone


def side_counts(features: Features) -> dict[str, int]:
    """Products per side, the dropped near-duplicates of held-out ones among them."""
    return {str(side): int(count) for side, count in features.table["side"].value_counts().items()}


def _expected_meta(data: DataConfig) -> dict[str, str]:
    """What the cleaned table must have been made from."""
    ingested = json.loads((data.interim_dir / "ingest.json").read_text(encoding="utf-8"))
    parts = {
        "format": FORMAT,
        "table": xxhash.xxh3_128_hexdigest((data.interim_dir / "merged_train.csv").read_bytes()),
        "images": ingested["fingerprint"]["images"],
        "split": to_plain(data.split),
        "text_chars": data.limits.text_chars,
    }
    return {"fingerprint": _key(parts), "settings": json.dumps(parts, sort_keys=True)}


def _read_meta(data: DataConfig) -> dict[str, str]:
    """What the cleaned table was made from; {} where there is none that can be read."""
    try:
        meta = json.loads((data.processed_dir / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _build_table(data: DataConfig, meta: dict[str, str]) -> None:
    table = _read_table(data.interim_dir / "merged_train.csv")
    for column in ("designation", "description"):
        table[column] = [clean(text, data.limits.text_chars) for text in table[column]]
    sides = split(table["productid"].tolist(), joined(table["designation"], table["description"]), data.split)
    table.insert(6, "side", sides.side)
    table.insert(7, "group", sides.group)
    # The mark of completeness goes first and comes back last.
    (data.processed_dir / META).unlink(missing_ok=True)
    with atomic_write(data.processed_dir / TABLE) as path:
        table.to_csv(path, index=False)
    with atomic_write(data.processed_dir / META) as path:
        path.write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _build_stores(
    data: DataConfig,
    model: ModelConfig,
    table: pd.DataFrame,
    fingerprint: str,
    console: Console | None,
    encoder: TextEncoder | None,
    places: list[Path],
) -> tuple[FeatureStore, Preprocessor]:
    """Stores from whichever of `places` has them; the last one gets what is missing."""
    images = _images_key(data, table)
    _remove_outdated(places[-1], {"pixels": images, "tokens": fingerprint})
    photos = tokens = None
    if model.text is not None:
        folder = _find(_token_store(model.text, fingerprint, encoder), places)
        if folder.is_dir():
            encoder = load_encoder(folder)
        elif encoder is None:
            training = table[table["side"] == TRAIN]
            encoder = fit_encoder(model.text, joined(training["designation"], training["description"]))
        preprocessor = Preprocessor(encoder, None, False, data.limits)
        tokens = build_token_store(
            folder, preprocessor, table["designation"].tolist(), table["description"].tolist()
        )
    if model.image is not None:
        folder = _find(_pixel_store(data, model.image, images), places)
        preprocessor = Preprocessor(None, model.image.image_px, model.image.trim_border, data.limits)
        if not folder.is_dir():
            _say(console, f"features: decoding photos at {model.image.image_px} px")
        photos = build_pixel_store(folder, _photo_paths(data, table), preprocessor, console)
    side_px, trim = (
        (model.image.image_px, model.image.trim_border) if model.image is not None else (None, False)
    )
    return FeatureStore(tokens, photos), Preprocessor(encoder, side_px, trim, data.limits)


def _token_store(text: NgramConfig | TransformerConfig, fingerprint: str, encoder: TextEncoder | None) -> str:
    settings = encoder.fingerprint() if encoder is not None else encoder_settings(text)
    return f"tokens-{fingerprint[:12]}-{_key(settings)[:12]}"


def _pixel_store(data: DataConfig, image: TimmConfig, images: str) -> str:
    sizes = [image.image_px, image.trim_border, to_plain(data.limits)]
    return f"pixels-{images[:12]}-{_key(sizes)[:12]}"


def _find(name: str, places: list[Path]) -> Path:
    folders = [place / name for place in places]
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def _images_key(data: DataConfig, table: pd.DataFrame) -> str:
    """Of the photos' bytes and of which row each belongs to: a row more or less moves all that follow."""
    ingested = json.loads((data.interim_dir / "ingest.json").read_text(encoding="utf-8"))
    return _key(
        [ingested["fingerprint"]["images"], table[["image_state", "imageid", "productid"]].values.tolist()]
    )


def _photo_paths(data: DataConfig, table: pd.DataFrame) -> list[Path | None]:
    folder = data.root / data.files.images_train
    rows = zip(table["image_state"], table["imageid"], table["productid"], strict=True)
    return [
        image_path(folder, data.files, imageid, productid) if state == ImageState.OK else None
        for state, imageid, productid in rows
    ]


def _remove_outdated(store_dir: Path, current: dict[str, str]) -> None:
    """Stores of an older version of the catalogue go: at 224 px one of 85,000 photos takes 13 GB."""
    for kind, fingerprint in current.items():
        for folder in store_dir.glob(f"{kind}-*"):
            if not folder.name.startswith(f"{kind}-{fingerprint[:12]}"):
                shutil.rmtree(folder)


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _key(parts: object) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


def _say(console: Console | None, text: str) -> None:
    if console is not None:
        console.print(f"[dim]{text}[/dim]")
