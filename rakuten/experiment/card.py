"""A bundle's model card: what it is for, how good, made of what, where it falls short (Mitchell et al., 2019)."""

from html import escape
from pathlib import Path

import jinja2
import markdown

from rakuten.experiment.summary import ROWS
from rakuten.model.bundle_files import add_text, check_bundle

CARD, CARD_PAGE = "card.md", "card.html"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .35rem .8rem .35rem 0; }
th { text-align: left; } code { font-size: .88em; overflow-wrap: anywhere; }
"""


def write_card(bundle: Path) -> None:
    """card.md and card.html beside the weights, under the bundle's hashes.

    Raises:
        BundleError: no bundle there, or a torn one.
    """
    info = check_bundle(bundle)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown; the page is made of it, with HTML in it escaped
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    size_bytes = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    text = environment.get_template("card.md.j2").render(
        **info, modality_names=ROWS, num=_number, size_bytes=size_bytes, zip=zip
    )
    add_text(bundle, CARD, text)
    add_text(bundle, CARD_PAGE, _page(text))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _page(text: str) -> str:
    title = text.partition("\n")[0].removeprefix("# ")
    body = markdown.markdown(escape(text, quote=False), extensions=["tables"])
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
