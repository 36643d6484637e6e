"""Products as a shop sends them: real ones where a catalogue is given, else made up with the lengths of real ones."""

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor

# Quantiles of 998 real products at a cap of 512 tokens: median 70, mean 128, 95 % below 450. A lognormal has them.
MEDIAN_TOKENS, SIGMA, CAP_TOKENS = 70, 1.131, 512
TOKENS_A_WORD = 1.6  # of the tokenizer that is trained on these texts
PHOTO_SHARE = 0.6
PHOTO_PX = 500
SYLLABLES = [
    "ba",
    "be",
    "bi",
    "bo",
    "da",
    "de",
    "di",
    "la",
    "le",
    "li",
    "lo",
    "ma",
    "me",
    "mi",
    "mo",
    "na",
    "ne",
    "ni",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "si",
    "ta",
    "te",
    "ti",
    "to",
    "va",
    "vi",
]


@dataclass(frozen=True)
class Request:
    """A product and the JSON that asks for it."""

    product: Product
    body: bytes


def words(count: int = 6000) -> list[str]:
    rng = np.random.default_rng(1)
    return sorted({"".join(rng.choice(SYLLABLES, size=rng.integers(1, 5))) for _ in range(count)})


def made_up(count: int, seed: int = 0) -> list[Product]:
    """`count` products, no two alike: titles of up to twelve words, the rest as a description."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(words())
    photos = [photo(number) for number in range(48)]
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_TOKENS), SIGMA, count), 3, CAP_TOKENS).astype(int)
    found = []
    for length in lengths.tolist():
        text = rng.choice(vocabulary, max(1, round(length / TOKENS_A_WORD))).tolist()
        image = photos[int(rng.integers(len(photos)))] if rng.random() < PHOTO_SHARE else None
        found.append(Product(" ".join(text[:12]), " ".join(text[12:]) or None, image))
    return found


def of_catalogue(root: Path, count: int, seed: int = 0) -> list[Product]:
    """`count` products of the training table in `root`, in a random order, with the photos that are there."""
    [table] = [path for path in (root / "X_train.csv", root / "X_train_update.csv") if path.is_file()]
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for at in np.random.default_rng(seed).permutation(len(rows)).tolist():
        row = rows[at]
        path = root / f"images/image_train/image_{row['imageid']}_product_{row['productid']}.jpg"
        image = path.read_bytes() if path.is_file() else None
        found.append(Product(row["designation"], row["description"] or None, image))
        if len(found) == count:
            break
    return found


def photo(seed: int) -> bytes:
    """A JPEG of 500 x 500 px and some 30 kB with a white border, as shops have them."""
    rng = np.random.default_rng(seed)
    inside = Image.fromarray(rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)).resize((420, 360))
    grain = Image.effect_noise(inside.size, 24).convert("RGB").filter(ImageFilter.GaussianBlur(0.7))
    picture = Image.new("RGB", (PHOTO_PX, PHOTO_PX), "white")
    picture.paste(Image.blend(inside, grain, 0.15), (40, 70))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def requests_for(products: Sequence[Product]) -> list[Request]:
    return [Request(product, body_of(product)) for product in products]


def body_of(product: Product) -> bytes:
    fields: dict[str, str] = {"designation": product.designation or ""}
    if product.description:
        fields["description"] = product.description
    if isinstance(product.image, bytes):
        fields["image"] = base64.b64encode(product.image).decode()
    return json.dumps(fields).encode()


def write_bodies(folder: Path, requests: Sequence[Request]) -> None:
    """One request a line: `single` as they are, `lists` for servers that take lists."""
    (folder / "single").write_bytes(b"\n".join(request.body for request in requests))
    (folder / "lists").write_bytes(b"\n".join(b'{"items": [%s]}' % request.body for request in requests))


def described(requests: Sequence[Request], bundle: Path) -> str:
    """How many, how long to the bundle's tokenizer, and how many with a photo."""
    products = [request.product for request in requests]
    tokens = Predictor.load(bundle).preprocessor.tokens(
        [product.designation or "" for product in products],
        [product.description or "" for product in products],
    )
    lengths = [0 if each is None else len(each) for each in tokens]
    photos = np.mean([product.image is not None for product in products])
    middle, high = np.percentile(lengths, [50, 95])
    return (
        f"{len(requests)} products: median {middle:.0f} tokens, mean {np.mean(lengths):.0f}, p95 {high:.0f};"
        f" {photos:.0%} with a photo"
    )
