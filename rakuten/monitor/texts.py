"""The texts beside what was counted of them, for Evidently: of the window and of the held-out products, where both are kept."""

import logging
from collections.abc import Mapping
from typing import Final

from rakuten.config import WatchConfig
from rakuten.data.clean import clean
from rakuten.errors import RakutenError
from rakuten.monitor.evidently_report import Sides
from rakuten.monitor.job import Look, log_at
from rakuten.monitor.reader import LogReader

_FEATURES: Final = "train_features.csv"


def sides_of(config: WatchConfig, found: Look) -> Sides:
    """
    Raises:
        RakutenError: the log is away, or `config.reference_texts` holds no texts.
    """
    window, limit = found.windows[-1], config.data.limits.text_chars
    with log_at(config.log):
        reader = LogReader(config.log)
        kept = reader.products(window.ids.tolist())
        reader.close()
    texts = {
        name: f"{clean(each.designation, limit)} {clean(each.description, limit)}".strip()
        for name, each in kept.items()
    }
    held_out = _held_out_texts(config, set(found.reference.seen.ids.tolist())) if any(texts.values()) else {}
    return Sides(found.reference, window, held_out, texts)


def _held_out_texts(config: WatchConfig, ids: set[str]) -> Mapping[str, str]:
    """Cleaned, of the catalogue that the champion was evaluated on, where it lies here."""
    import pandas as pd

    places = [config.data.processed_dir, config.data.cache_dir / "processed"]
    path = config.reference_texts or next(
        (each / _FEATURES for each in places if (each / _FEATURES).is_file()), None
    )
    if path is None:
        return {}
    try:
        columns = ["index", "designation", "description"]
        table = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RakutenError(f"{path} holds no texts", expected=", ".join(columns), got=error) from error
    table = table[table["index"].isin(ids)]
    if len(table) < len(ids):
        logging.getLogger(__name__).warning(
            "%s is not the catalogue that the champion was evaluated on", path
        )
        return {}
    joined = (table["designation"] + " " + table["description"]).str.strip()
    return dict(zip(table["index"], joined, strict=True))
