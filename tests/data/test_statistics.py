"""Statistics of a product's input: of what the model gets, alike wherever it comes from, and telling what changed."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rakuten.data.demo_text import write_fields
from rakuten.data.language import Language, language_of
from rakuten.data.preprocess import Example, Preprocessor, Product
from rakuten.data.statistics import (
    InputStatistics,
    declared_size,
    input_statistics,
    known_words,
    statistics_of,
)
from rakuten.data.text_encoder import words
from tests.model import tiny

# What a shop writes about toys, pools, books, phones and clothes, in three languages.
PHRASES: dict[Language, tuple[str, ...]] = {
    "fr": (
        "Piscine gonflable pour enfants avec pompe",
        "Lot de 2 coussins en coton, lavables à 30 degrés",
        "Figurine de collection très rare, livrée dans sa boîte",
        "Livre d'occasion en bon état, couverture souple",
        "Ce produit est garanti deux ans et vous sera expédié rapidement",
        "Coque de protection pour votre téléphone, souple et résistante",
        "Idéal pour les fêtes d'anniversaire et les longues soirées",
        "Chaise longue pliante pour le jardin ou la terrasse",
    ),
    "de": (
        "Aufblasbarer Pool für Kinder mit Pumpe",
        "Zwei Kissen aus Baumwolle, waschbar bei 30 Grad",
        "Sehr seltene Sammelfigur, wird mit der Schachtel geliefert",
        "Gebrauchtes Buch in gutem Zustand, weicher Einband",
        "Dieses Produkt hat zwei Jahre Garantie und wird schnell verschickt",
        "Schutzhülle für Ihr Telefon, weich und stabil",
        "Geeignet für Geburtstage und lange Abende mit der Familie",
        "Klappbarer Liegestuhl für den Garten oder die Terrasse",
    ),
    "en": (
        "Inflatable pool for children with a pump",
        "Set of two cotton pillows, washable at 30 degrees",
        "Very rare figure for your collection, shipped in its box",
        "Used book in good condition, soft cover",
        "This product has a warranty of two years and will be shipped quickly",
        "Protective case for your phone, soft and tough",
        "Perfect for birthdays and the long evenings with your family",
        "Folding chair for the garden or the terrace",
    ),
}


def texts(language: Language, num: int, sentences: int) -> list[str]:
    rng = random.Random(f"{language}{sentences}")
    return [". ".join(rng.sample(PHRASES[language], sentences)) for _ in range(num)]


@pytest.mark.parametrize("language", PHRASES)
@pytest.mark.parametrize(("sentences", "right"), [(1, 0.99), (3, 0.999)])
def test_the_language_of_what_shops_write(language: Language, sentences: int, right: float) -> None:
    """One title: over 99 % of each language; a description of three sentences: all."""
    written = texts(language, 300, sentences)
    told = [language_of(text, words(text)) for text in written]
    assert np.mean([each == language for each in told]) >= right


@pytest.mark.parametrize(
    "title", ["", "Nintendo Switch 32GB", "4006381333931", "日本語のタイトル", "XBOX 360"]
)
def test_what_is_in_none_of_the_languages_is_other(title: str) -> None:
    assert language_of(title, words(title)) == "other"


def test_shouting_and_lost_accents_change_no_language() -> None:
    for text in (
        "PISCINE GONFLABLE POUR ENFANTS TRÈS RÉSISTANTE",
        "Piscine tres resistante pour les enfants",
    ):
        assert language_of(text, words(text)) == "fr"


@pytest.fixture(scope="module")
def processor() -> Preprocessor:
    return tiny.preprocessor(tiny.model_config("transformer", tiny.image_config(image_px=64)))


def of(processor: Preprocessor, product: Product) -> InputStatistics:
    return input_statistics(product, processor([product])[0], processor)


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def photo(seed: int = 0) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((300, 240), Image.Resampling.NEAREST)


def test_markup_and_size_of_the_same_product_are_no_change(processor: Preprocessor) -> None:
    """What the replaced monitoring took for drift: raw lengths against cleaned ones."""
    rng = random.Random(0)
    title, sentences = "Chaise de jardin", ["Très solide, livrée chez vous.", "Idéale pour la terrasse."] * 3
    clean = of(processor, Product(title, " ".join(sentences)))
    dirty = [write_fields(title, sentences, rng) for _ in range(40)]
    assert len({len(description) for _, description in dirty}) > 5
    for dirty_title, description in dirty:
        if "co" in dirty_title.split()[-1]:
            continue
        seen = of(processor, Product(dirty_title, description))
        assert (seen.title_chars, seen.description_chars, seen.language) == (
            clean.title_chars, clean.description_chars, clean.language,
        )  # fmt: skip


def test_a_photo_says_how_it_is(processor: Preprocessor) -> None:
    sharp = photo()
    plain = of(processor, Product("x", image=jpeg(sharp)))
    assert (plain.image_width, plain.image_height) == (300, 240)
    blurred = of(processor, Product("x", image=jpeg(sharp.filter(ImageFilter.GaussianBlur(6)))))
    assert blurred.sharpness < plain.sharpness / 4
    dark = of(processor, Product("x", image=jpeg(sharp.point(lambda level: level // 3))))
    assert dark.brightness < plain.brightness
    square = sharp.resize((200, 200))
    faded = of(processor, Product("x", image=jpeg(square.point(lambda level: 90 + level // 3))))
    assert faded.contrast < of(processor, Product("x", image=jpeg(square))).contrast / 2
    gray = of(processor, Product("x", image=jpeg(sharp.convert("L").convert("RGB"))))
    assert gray.saturation < 0.05 < plain.saturation
    white = of(processor, Product("x", image=jpeg(Image.new("RGB", (100, 100), "white"))))
    assert (white.white_share, white.brightness, white.contrast, white.sharpness) == (1, 1, 0, 0)


@pytest.mark.parametrize("side_px", [1, 2, 3, 48, 95, 97, 224, 500])
def test_figures_of_a_photo_are_what_they_are_called(side_px: int) -> None:
    """Against the definitions in floats over the same pixels."""
    coarse = np.random.default_rng(side_px).integers(
        0, 256, (3, side_px // 5 + 1, side_px // 5 + 1), dtype=np.uint8
    )
    pixels = np.kron(coarse, np.ones((1, 5, 5), dtype=np.uint8))[:, :side_px, :side_px]
    seen = statistics_of("", "", Example(None, pixels))
    luma = np.tensordot((0.299, 0.587, 0.114), pixels.astype(float), axes=1)
    assert seen.brightness == pytest.approx(luma.mean() / 255, abs=0.02)
    assert seen.contrast == pytest.approx(luma.std() / 255, abs=0.02)
    assert seen.saturation == pytest.approx(np.ptp(pixels.astype(float), axis=0).mean() / 255, abs=0.02)
    if side_px == 48:  # the whole of it is looked at
        middle = luma[1:-1, 1:-1]
        laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
        assert seen.sharpness == pytest.approx(laplacian.var(), rel=0.02)


def test_what_is_absent_has_no_statistics(processor: Preprocessor) -> None:
    nothing = of(processor, Product())
    assert (nothing.has_text, nothing.has_description, nothing.has_image, nothing.image_failed) == (
        False,
    ) * 4
    assert (nothing.language, nothing.oov_share, nothing.brightness, nothing.image_width) == (None,) * 4
    assert (nothing.title_chars, nothing.num_tokens) == (0, 0)
    broken = of(processor, Product("Livre", image=b"GIF89a, they said"))
    assert (broken.has_image, broken.image_failed, broken.sharpness, broken.image_width) == (
        False,
        True,
        None,
        None,
    )
    markup = of(processor, Product("Livre", "<br/>&nbsp;"))
    assert not markup.has_description


def test_a_photo_in_a_file_is_the_photo(processor: Preprocessor, tmp_path: Path) -> None:
    data = jpeg(photo())
    (tmp_path / "a.jpg").write_bytes(data)
    assert of(processor, Product("x", image=tmp_path / "a.jpg")) == of(processor, Product("x", image=data))
    assert declared_size(tmp_path / "none.jpg") is None


def test_words_that_training_did_not_have(processor: Preprocessor) -> None:
    known = of(processor, Product("livre jeu console"))
    assert known.oov_share == 0
    assert of(processor, Product("livre 日本語")).oov_share > 0
    ngrams = tiny.preprocessor(tiny.model_config("ngram"))
    product = Product("Livre d'ÉLAGAGE neuf", "piscine")
    [example] = ngrams([product])
    assert input_statistics(product, example, ngrams).oov_share is None
    vocabulary = known_words(["Livres et livre", "élagage d piscine"])
    assert input_statistics(product, example, ngrams, vocabulary).oov_share == pytest.approx(1 / 5)  # neuf
    [empty] = ngrams([Product()])
    assert input_statistics(Product(), empty, ngrams, vocabulary).oov_share is None


def test_what_training_has_and_what_the_service_gets_are_the_same(processor: Preprocessor) -> None:
    """Texts cleaned beforehand, as the features stage does, against raw ones."""
    title, description = "Livre&nbsp;<b>neuf</b>", "Tr&egrave;s   bon état"
    [example] = processor([Product(title, description, jpeg(photo()))])
    raw = input_statistics(Product(title, description, jpeg(photo())), example, processor)
    cleaned = statistics_of(
        processor.clean(title),
        processor.clean(description),
        example,
        unknown_id=processor.text_encoder.unknown_id,
        size_px=(300, 240),
    )
    assert raw == cleaned
