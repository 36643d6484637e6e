"""What the evaluated model said and saw of held-out products, recorded in its bundle for whoever watches it later."""

from pathlib import Path
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from rakuten.data.features import Features
from rakuten.data.fit_encoder import joined
from rakuten.data.images import ImageState
from rakuten.data.preprocess import Example
from rakuten.data.split import TRAIN
from rakuten.data.statistics import known_words, statistics_of
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import read_info, sha256, update_info
from rakuten.model.observe import observe
from rakuten.model.reference import REFERENCE, Reference

NUM_PRODUCTS: Final = 4_000  # at most: 14 MB with towers of 768 and 1,024 dimensions


def record_reference(bundle: Path, features: Features, rows: NDArray[np.int64], device: str) -> None:
    """Write `reference.safetensors` into the bundle, under its hashes, from products that it was judged on.

    Of many `rows`, those are taken whose ids hash lowest: the same ones for every model of this catalogue, and the rest
    stays for whoever wants to try the watch on products that it does not know.
    """
    predictor = Predictor.load(bundle, device)
    taken = _lowest(features, rows)
    training = features.table.iloc[features.rows(TRAIN)]
    words = known_words(joined(training["designation"], training["description"]))
    examples = [_example(features, row) for row in taken.tolist()]
    texts = features.table[["designation", "description"]].iloc[taken].itertuples(index=False)
    statistics = [
        statistics_of(title, description, example, known_words=words)
        for (title, description), example in zip(texts, examples, strict=True)
    ]
    ids = features.table["index"].iloc[taken].tolist()
    seen = observe(predictor, examples, statistics, ids, features.labels[taken])
    hashes = np.array(sorted(words), dtype=np.uint32)
    path = Reference(seen, predictor.labels.codes, hashes).save(bundle)
    update_info(
        bundle,
        hashes=read_info(bundle)["hashes"] | {REFERENCE: sha256(path)},
        drift_reference={"file": REFERENCE, "num_products": len(taken)},
    )


def _lowest(features: Features, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    ids = features.table["index"].to_numpy()[rows]
    order = np.argsort(
        [xxhash.xxh3_64_intdigest(f"reference {each}".encode()) for each in ids], kind="stable"
    )
    return np.sort(rows[order[:NUM_PRODUCTS]])


def _example(features: Features, row: int) -> Example:
    found = features.store[row]
    state = features.table["image_state"].iloc[row]
    given = state not in (ImageState.OK, ImageState.NONE, ImageState.MISSING)
    reads_photos = features.store.photos is not None
    return Example(found.tokens, found.pixels, str(state) if given and reads_photos else None)
