"""The file .env: is everything in it that is asked for, and is it seen by nobody else?"""

import os
import stat
import subprocess
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from rakuten.doctor.check import Finding, error, ok, skipped, warning

FILE, EXAMPLE = ".env", ".env.example"
GIT_S = 20


def check_variables(folder: Path) -> Finding:
    """What .env.example lists, against the environment, which holds what .env says."""
    example = folder / EXAMPLE
    if not (folder / FILE).is_file():
        cure = f"`make env` makes one for development; else cp {EXAMPLE} {FILE}, and fill it in"
        return skipped("there is none: enough for tracking=local", cure if example.is_file() else None)
    if not example.is_file():
        return ok(f"{len(dotenv_values(folder / FILE, interpolate=False))} variables")
    names = _asked_for(example)
    unset = [name for name in names if not os.environ.get(name, "").strip()]
    if unset:
        told = [f"{name} is {'empty' if name in os.environ else 'missing'}" for name in unset]
        return warning(", ".join(told), f"set it in {FILE}; {EXAMPLE} says what it is")
    return ok(f"all {len(names)} variables that {EXAMPLE} asks for")


def _asked_for(example: Path) -> list[str]:
    """Its variables, but for those of which the comment above says what it means that they are empty."""
    names, comment = [], ""
    with example.open(encoding="utf-8") as stream:
        for binding in parse_stream(stream):
            if binding.key is None:
                comment += binding.original.string
                continue
            if "empty" not in f"{comment}{binding.original.string}".lower():
                names.append(binding.key)
            comment = ""
    return names


def check_rights(folder: Path) -> Finding:
    path = folder / FILE
    if not path.is_file():
        return skipped(f"there is no {FILE}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return warning(f"other users may read it (its mode is {mode:o})", f"chmod 600 {FILE}")
    return ok("its owner alone may read it")


def check_secrecy(folder: Path) -> Finding:
    """Git must neither hold it nor take it with the next `git add .`."""
    if not (folder / FILE).is_file():
        return skipped(f"there is no {FILE}")
    if git_root(folder) is None:
        return skipped("no git repository here")
    if git(folder, "ls-files", "--", FILE).stdout:
        return error(
            "git tracks it: who has the repository has its secrets",
            f"git rm --cached {FILE}, commit, and change every password and key in it",
        )
    if git(folder, "check-ignore", "--quiet", "--", FILE).returncode != 0:
        return warning("git does not ignore it", f"echo {FILE} >> .gitignore")
    return ok("git ignores it")


def git_root(folder: Path) -> Path | None:
    """Top of the repository that `folder` is in; None outside one, or without git."""
    try:
        done = git(folder, "rev-parse", "--show-toplevel")
    except OSError:
        return None
    return Path(done.stdout.rstrip("\n")) if done.returncode == 0 else None


def git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_S, check=False
    )
