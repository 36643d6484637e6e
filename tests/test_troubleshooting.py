"""The troubleshooting page: each entry is whole, what it quotes is what the code says, what it tells to type exists."""

import re
import shlex
from functools import cache

import pytest

from rakuten import config as schemas
from rakuten.cli import CONF_DIR
from rakuten.cli.composer import Composer
from rakuten.cli.entry import checked
from tests.conftest import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PARTS = ("Seen", "Check", "Cause", "Cure")
# The list that the replaced pipeline's users had, and what became of each of its entries.
OF_THE_REPLACED_LIST = {
    "artifacts written to a read-only path": "Artifacts written to a read-only path",
    "S3 refused": "S3 refuses",
    'DVC "tracked by SCM"': 'DVC says "tracked by SCM"',
    "missing images": "Photos are missing",
    "containers not starting": "Containers do not start",
    "every answer the same class": "Every answer is the same class",
    "restart after a change": "A change has no effect until a restart",
}
# What the page quotes of our own words.
OUR_WORDS = (
    "No photo is readable: are they at",
    "the answers are from text alone",
    "torch sees no GPU",
    "are not on disk and cannot be fetched",
    "had been killed; resume=true goes on with it",
    "the record is kept on disk and delivered later",
    "cannot be had",
    "was made with another search space, objective or setting",
    "is of another format",
    "does not fit this version of rakuten",
    "was changed after it was written",
    "the environment variable",
    "cannot be understood at line",
)
SPANS = [(title, span) for title, body in ENTRIES.items() for span in re.findall(r"`([^`]+)`", body)]
COMMANDS = sorted({span for _, span in SPANS if span.startswith("python scripts/")})
SETTINGS = sorted({span for _, span in SPANS if re.fullmatch(r"[a-z_.]+=[\w.-]+", span)})


def script_of(name: str) -> tuple[str, type]:
    """The name of the script's config and its schema, as it hands them to `run`."""
    source = (ROOT / name).read_text(encoding="utf-8")
    found = re.search(r"^    run\(main, (\w+), \"(\w+)\"", source, re.MULTILINE)
    assert found, name
    return found[2], getattr(schemas, found[1])


@cache
def composer(name: str) -> Composer:
    return Composer(name, CONF_DIR)


def accept(script: str, arguments: list[str]) -> None:
    """Raises where the script would refuse its command line."""
    name, schema = script_of(script)
    overrides = [each.replace("data=mine", "data=rakuten") for each in arguments if "=" in each]
    checked(composer(name), overrides, schema, "-m" in arguments, [])


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")  # what tracking=server asks for


@pytest.mark.parametrize(("before", "now"), OF_THE_REPLACED_LIST.items())
def test_no_entry_of_the_replaced_list_is_lost(before: str, now: str) -> None:
    assert now in ENTRIES, before


@pytest.mark.parametrize("title", ENTRIES)
def test_an_entry_is_whole(title: str) -> None:
    parts = re.findall(r"^- \*\*(\w+):\*\* (\S.{15,})", ENTRIES[title], re.MULTILINE)
    assert tuple(name for name, _ in parts) == PARTS
    check = ENTRIES[title].split("**Check:**")[1].split("**Cause:**")[0]
    assert "`" in check, "a check is something to type or to read"


def test_every_entry_is_found_from_the_top() -> None:
    linked = re.findall(r"\[([^\]]+)\]\(#([^)]+)\) \|$", PAGE, re.MULTILINE)
    assert [title for title, _ in linked] != []
    assert sorted(title for title, _ in linked) == sorted(ENTRIES)
    for title, anchor in linked:
        assert anchor == re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("words", OUR_WORDS)
def test_it_quotes_what_the_code_says(words: str) -> None:
    assert words in PAGE
    code = [path for folder in ("rakuten", "deploy") for path in (ROOT / folder).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in code)
    assert words in source


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command: str) -> None:
    _, script, *arguments = shlex.split(command)
    accept(script, arguments)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_one(setting: str) -> None:
    accept("scripts/train.py", [setting])


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {target for _, span in SPANS for target in re.findall(r"^make ([a-z-]+)", span)}
    assert {"stack", "stack-check", "lock"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_files_exist() -> None:
    named = {path for _, span in SPANS for path in re.findall(r"\b(?:deploy|scripts)/[\w./-]+\w", span)}
    assert "deploy/compose.yaml" in named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_other_pages_lead_here() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "docs/troubleshooting.md" in (ROOT / page).read_text(encoding="utf-8")
