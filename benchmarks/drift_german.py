"""The generated catalogue's vocabulary in German, word by word: a shop that switches its language."""

import re

from rakuten.data import demo_words

TOPICS = (
    "controller kopfhörer ladegerät lenkrad kabel akku vibration joystick hülle netzteil pad mikrofon dockstation "
    "griff gurt halterung",
    "konsole nintendo playstation xbox gameboy sega tragbare wii schalter wohnzimmer bündel megadrive dreamcast "
    "famicom gamecube atari",
    "warhammer kerker drache elf ork zwerg krieger zauberer würfel spielbrett rollenspiel armee malerei harz "
    "kobold ritter",
    "karte pokémon booster yugioh zauber holografisch schutzhülle jumbo stapel pikachu glänzend sammelbild erweiterung "
    "einsteiger duell sammler",
    "socke body schlafanzug lätzchen hausschuh mütze strampler geburt wickeljacke strickzeug strumpfhose "
    "fäustling spielanzug schlafsack masche strickware",
    "kinderwagen fläschchen windel schnuller sitz wiege kutsche matratze stillen trage wickeltisch nachtlicht "
    "badewanne schutzgitter babyfon wippe",
    "kaffee tee schokolade keks marmelade honig gewürz sirup bonbon zucker kapsel kräutertee karamell haselnuss "
    "vanille mandel",
    "hund katze halsband leine napf streu trockenfutter aquarium krallen hundehütte geschirr käfig vogel "
    "kaninchen hamster papagei",
    "zeitung zeitschrift magazin nummer wochenblatt anzeiger presse monatsheft illustriert reportage titelseite "
    "artikel beilage erscheinung tageszeitung redaktion",
    "buch roman band autor taschenbuch gedicht erzählung geschichte kapitel ausgabe enzyklopädie wörterbuch "
    "märchen bücherei einband aufsatz",
    "heft kugelschreiber papier bleistift ordner notizbuch umschlag radiergummi filzstift kalender tinte lineal mäppchen "
    "büroklammer hefter kalligrafie",
    "sonnenschirm laube liegestuhl hängematte hollywoodschaukel pergola stuhl rattan teakholz kunstfaser kissen "
    "unterstand gewächshaus pavillon vorhang geländer",
    "rasenmäher schneiden kettensäge gartenschere bewässerung schlauch rechen schaufel laubbläser freischneider hecke "
    "klinge schubkarre spaten rasen baumpfleger",
    "altmodisch sammlung alt retro selten auflage begrenzt nummeriert echt ansehen reihe erbe "
    "epoche antik klassisch unterschrift",
    "kind familie junge mädchen mama papa pädagogisch lustig lernen schule umarmung sanftheit kinderreim "
    "knirps kreativ erwachen",
)
OTHER = {
    "de": "von", "pour": "für", "avec": "mit", "et": "und", "en": "in", "à": "zu", "with": "mit", "for": "für",
    "lot": "satz", "pack": "packung", "nouveau": "neu", "brand": "ganz", "new": "neu", "set": "satz", "of": "von",
    "superbe": "prächtig", "neuf": "neu", "très": "sehr", "bon": "guter", "bonne": "gute", "état": "zustand",
    "livraison": "lieferung", "rapide": "schnell", "free": "kostenlose", "shipping": "lieferung", "réf": "nr",
    "haute": "hohe", "qualité": "qualität", "occasion": "gebraucht", "découvrez": "entdecken", "notre": "unser",
    "modèle": "modell", "livré": "geliefert", "chez": "zu", "vous": "ihnen", "idéal": "ideal",
    "caractéristiques": "eigenschaften", "un": "ein", "produit": "produkt", "pensé": "gedacht", "garanti": "garantie",
    "ans": "jahre", "dimensions": "masse", "expédition": "versand", "soignée": "sorgfältig", "contenu": "inhalt",
    "l": "der", "emballage": "verpackung", "great": "guter", "value": "wert", "perfect": "perfekt",
}  # fmt: skip


def _vocabulary() -> dict[str, str]:
    found = dict(OTHER)
    french = [*demo_words.TEXT_CLASSES.values(), *demo_words.SHARED_TOPICS]
    for theirs, ours in zip(french, TOPICS, strict=True):
        found |= dict(zip(theirs.split(), ours.split(), strict=True))
    return found


GERMAN = _vocabulary()


def in_german(text: str) -> str:
    """A cleaned text of the generated catalogue; a word that is not in its vocabulary stays as it is."""
    return re.sub(r"[^\W\d_]+", lambda match: _like(match[0], GERMAN.get(match[0].lower(), match[0])), text)


def _like(written: str, word: str) -> str:
    if written.isupper() and len(written) > 1:
        return word.upper()
    return word.capitalize() if written[:1].isupper() else word
