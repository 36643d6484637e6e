"""Which language a product's text is in: French, German, English or none of them, by stop words and letters.

Made to see that the mix of languages changes, not to route a text: a title of brand names alone is "other".
"""

from collections.abc import Iterable
from typing import Final, Literal, get_args

Language = Literal["fr", "de", "en", "other"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

# As `words` gives them: lower case, without accents. A word that two of the languages share is left out ("des", "die",
# "in", "an", "a", "on", "son", "plus", "champion" ...), but "de", which is German only in names.
_STOP_WORDS: Final[dict[Language, str]] = {
    "fr": "de du la le les un une et pour avec sans sur dans par au aux ou est sont ce cette ces vous votre vos nous notre "
    "nos il elle qui que ne pas tres tout tous toute toutes en chez entre vers lors comme mais peut etre idee "
    "cm lot neuf neuve occasion livraison couleur taille modele qualite ideal grand petit noir blanc rouge bleu enfant "
    "femme homme fille garcon bebe maison jeu jeux livre jouet piece pieces coque housse cadeau decoration jardin",
    "de": "der das und mit fur von zu den dem ein eine einer einem einen ist sind nicht auf aus bei nach vom zum zur "
    "im auch oder sich wird werden kann konnen sie ihr ihre ihren wir unser unsere uber unter zwischen durch ohne mehr "
    "als wie sehr alle neu neue neuen neues stuck farbe grosse hochwertige qualitat geeignet ideal fuer kinder spiel "
    "spielzeug buch geschenk garten schwarz weiss blau rot lieferung verarbeitung",
    "en": "the of and for with to is are this that these you your our we it its from by or not be can will has have all "
    "more very as at into out up new used brand set pack free shipping color size quality perfect ideal great "
    "high black white blue red kids children boy girl women men home garden toy game games book gift case cover",
}
_LETTERS: Final[dict[Language, str]] = {"fr": "éèêàçùûôîœ", "de": "äöüß"}
_LETTER_WEIGHT: Final = 0.5
_MIN_SCORE: Final = 0.5

_OF_WORD: Final[dict[str, tuple[Language, ...]]] = {}
for _language, _words in _STOP_WORDS.items():
    for _word in dict.fromkeys(_words.split()):
        _OF_WORD[_word] = (*_OF_WORD.get(_word, ()), _language)


def language_of(text: str, words: Iterable[str]) -> Language:
    """The language of a text and its `rakuten.data.text_encoder.words`; on a tie the first of `LANGUAGES`."""
    scores: dict[Language, float] = {"fr": 0.0, "de": 0.0, "en": 0.0}
    for word in words:
        languages = _OF_WORD.get(word)
        if languages is not None and len(languages) == 1:
            scores[languages[0]] += 1
    if not text.isascii():
        lower = text.lower()
        for language, letters in _LETTERS.items():
            scores[language] += _LETTER_WEIGHT * sum(map(lower.count, letters))
    best = max(scores, key=lambda each: scores[each])
    return best if scores[best] >= _MIN_SCORE else "other"
