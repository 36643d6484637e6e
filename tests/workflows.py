"""Workflows as a runner takes them: jobs, steps, and a step's command run in a repository made for the test."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

FOLDER = ROOT / ".github/workflows"
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")  # what `shell: bash` means to a runner
IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")


@dataclass(frozen=True)
class Step:
    """A step that runs a command; `key` is WORKFLOW/JOB/NAME."""

    key: str
    run: str
    env: Mapping[str, str]  # the job's and its own, expressions as they are written


@cache
def workflow(name: str) -> Any:
    """Its content; YAML takes the key `on` for true."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in content.items()}


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def jobs() -> Iterator[tuple[str, Any]]:
    """WORKFLOW/JOB and its content."""
    for name in names():
        for job, content in workflow(name)["jobs"].items():
            yield f"{name}/{job}", content


def steps() -> list[Step]:
    """Every step with a command, in order."""
    return [
        Step(f"{key}/{step.get('name')}", step["run"], {**job.get("env", {}), **step.get("env", {})})
        for key, job in jobs()
        for step in job.get("steps", [])
        if "run" in step
    ]


def step(key: str) -> Step:
    [found] = [each for each in steps() if each.key == key]
    return found


def evaluated(text: str, known: Mapping[str, str]) -> str:
    """A value with its expressions replaced: names and quoted texts, joined by `||`."""

    def value(match: re.Match[str]) -> str:
        terms = [term.strip() for term in match.group(1).split("||")]
        values = [term[1:-1] if term.startswith("'") else known.get(term, "") for term in terms]
        return next((each for each in values if each), "")

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


def run(
    each: Step, folder: Path, environment: Mapping[str, str], known: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The step's command, exactly as it is written, in `folder`; stdout holds both streams."""
    own = {name: evaluated(value, known or {}) for name, value in each.env.items()}
    return subprocess.run(
        [*SHELL, each.run],
        cwd=folder,
        env={**os.environ, **environment, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *IDENTITY, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def make_origin(folder: Path) -> Path:
    """What stands in the working tree, committed on main."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message=All")
    return folder
