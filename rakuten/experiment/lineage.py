"""Where a run comes from, as it is recorded when the run is made: code, data, and a name of its own."""

import hashlib
import subprocess
from pathlib import Path

UUID_TAG = "rakuten.run_id"
DIFF = "git.diff"  # artifact, and file among the run's checkpoints: what the commit does not hold
_MAX_DIFF_BYTES = 4_000_000


def git_tags(folder: Path) -> dict[str, str]:
    """git_commit, git_branch and git_dirty of the repository at `folder`; empty outside one."""
    try:
        return {
            "git_commit": git(folder, "rev-parse", "HEAD").strip(),
            "git_branch": git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip(),
            "git_dirty": str(bool(git(folder, "status", "--porcelain").strip())).lower(),
        }
    except (subprocess.SubprocessError, OSError):
        return {}


def git_diff(folder: Path) -> str:
    """What the tracked files hold beyond the commit, cut where it is huge; "" outside a repository."""
    try:
        text = git(folder, "diff", "HEAD", "--no-color")
    except (subprocess.SubprocessError, OSError):
        return ""
    return text if len(text) <= _MAX_DIFF_BYTES else text[:_MAX_DIFF_BYTES] + "\n[cut]\n"


def git(folder: Path, *arguments: str) -> str:
    """
    Raises:
        subprocess.SubprocessError: git refuses, or takes too long.
        OSError: there is no git.
    """
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=True, timeout=20
    ).stdout


def digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
