"""The file .env: what it may hold, and what is said of it when it cannot be read."""

import os
from pathlib import Path

import pytest

from rakuten.cli import compose
from rakuten.cli.environment import load_environment
from rakuten.errors import ConfigError

VALUES = {
    "plain": "PLAIN=plain",
    "two words": 'QUOTED="two words"',
    "it's #1": 'HASH="it\'s #1"',
    "a#b": "INNER=a#b",
    "value": "COMMENT=value # about it",
    "a=b=c": "EQUALS=a=b=c",
    "pa$$word${X}": "DOLLAR='pa$$word${X}'",
    "exported": "export EXPORTED=exported",
    "spaced": "  SPACED = spaced",
    "été": "ACCENT=été",
}


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
def test_values_are_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, mark: bytes
) -> None:
    lines = ["# a comment", "", *VALUES.values(), ""]
    (tmp_path / ".env").write_bytes(mark + end.join(lines).encode())
    names = [line.removeprefix("export ").partition("=")[0].strip() for line in VALUES.values()]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    expected = {line: value for value, line in VALUES.items()}
    assert load_environment(tmp_path) == names
    assert [os.environ.pop(name) for name in names] == [expected[line] for line in VALUES.values()]


def test_the_environment_stands_above_the_file_unless_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("RAKUTEN_A=file\nRAKUTEN_B=file\n")
    monkeypatch.setenv("RAKUTEN_A", "environment")
    monkeypatch.setenv("RAKUTEN_B", "")
    load_environment(tmp_path)
    assert (os.environ["RAKUTEN_A"], os.environ["RAKUTEN_B"]) == ("environment", "file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'SECRET="hunter2\n', "line 1"),
        (b"A=1\nSECRET hunter2\n", "line 2"),
        (b"A=1\nhunter2\n", "line 2"),
        (b"SECRET=hunter2\xff\n", "cannot be read"),
    ],
)
def test_a_torn_file_is_told_without_its_values(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        load_environment(tmp_path)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(("value", "said"), [(None, "missing"), ("", "empty"), ("  ", "empty")])
def test_a_variable_that_a_config_needs_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str | None, said: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if value is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
    with pytest.raises(ConfigError, match=f"MLFLOW_TRACKING_URI is {said}"):
        compose("train", ["tracking=server"])


def test_no_file_is_no_mistake(tmp_path: Path) -> None:
    assert load_environment(tmp_path) == []
