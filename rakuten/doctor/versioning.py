"""Git and DVC: who owns which file, what the lock covers, where the data can be fetched from."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from rakuten.doctor.check import Finding, error, ok, skipped, warning
from rakuten.doctor.environment import git, git_root
from rakuten.doctor.network import knock_at
from rakuten.doctor.s3 import Bucket, check_listing
from rakuten.errors import RakutenError
from rakuten.experiment.tracking.journal import without_password

_ADD_REMOTE = "dvc remote add --default NAME s3://BUCKET/PREFIX, or a folder that others see too"
_ONE_AT_A_TIME = threading.Lock()  # an open repository of DVC's keeps a database of its own
_S3_OPTIONS = {  # a remote's setting -> boto3's, of a session
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "region": "region_name",
    "profile": "profile_name",
}


def check_dvc(folder: Path) -> Finding:
    """The program, and whether the checkout is one of its repositories."""
    is_used = any((folder / name).exists() for name in ("dvc.yaml", ".dvc"))
    if find_spec("dvc") is None:
        told = "it is not installed"
        cure = "pip install 'rakuten[pipeline]'"
        return error(f"{told}, and dvc.yaml needs it", cure) if is_used else skipped(told, cure)
    root = _root(folder)
    if root is None:
        told = "this folder is no repository of DVC's"
        return error(f"{told}, and dvc.yaml needs one", "dvc init") if is_used else skipped(told, "dvc init")
    from dvc import __version__

    return ok(f"{__version__}, repository {root}")


def check_remote(folder: Path) -> Finding:
    """Whether there is a default remote, and whether it answers."""
    root = _root(folder)
    if root is None:
        return skipped("no repository of DVC's here")
    from dvc.config import Config

    config = Config(str(root / ".dvc"))
    name, remotes = config["core"].get("remote"), config["remote"]
    if not name and not remotes:
        return skipped("no remote: data stay on this machine", _ADD_REMOTE)
    if not name:
        return warning(f"none of the remotes {', '.join(remotes)} is the default", "dvc remote default NAME")
    if name not in remotes:
        return error(f"the default remote {name} is not configured", _ADD_REMOTE)
    return _reach(name, dict(remotes[name]))


def _reach(name: str, remote: dict[str, Any]) -> Finding:
    url = str(remote["url"])
    shown = f"{name}: {without_password(url)}"
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        options = {ours: str(remote[key]) for key, ours in _S3_OPTIONS.items() if remote.get(key)}
        return check_listing(Bucket(bucket, remote.get("endpointurl"), options, prefix))
    if "://" not in url:
        if os.access(url, os.R_OK | os.X_OK):
            return ok(shown)
        return error(f"{shown} is not there, or may not be read", "mount it, or `dvc remote modify`")
    if problem := knock_at(url):
        return error(f"{shown}: {problem}", "see the network, or `dvc remote modify`")
    return ok(f"{shown} (only whether somebody listens there was tried)")


def check_lock(folder: Path) -> Finding:
    """dvc.lock says what each stage was made from; a stage that it lacks can be neither pulled nor traced."""
    if _root(folder) is None:
        return skipped("no repository of DVC's here")
    with _stages(folder) as stages:
        named = [(Path(stage.path), str(stage.name)) for stage in stages if getattr(stage, "name", None)]
    if not named:
        return skipped("no dvc.yaml here")
    locks = {path: path.with_name("dvc.lock") for path, _ in named}
    if not any(lock.is_file() for lock in locks.values()):
        return skipped("there is no dvc.lock yet", "dvc repro")
    covered = {path: _locked(lock) for path, lock in locks.items()}
    lacking = [name for path, name in named if name not in covered[path]]
    if lacking:
        return warning(f"dvc.lock lacks {', '.join(lacking)}", "dvc repro, then commit dvc.lock")
    return ok(f"dvc.lock covers all {len(named)} stages")


def _locked(path: Path) -> set[str]:
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return set()
    return set(body.get("stages") or {})


def check_owners(folder: Path) -> Finding:
    """A file has one owner. What git tracks, DVC refuses to take ("output is already tracked by SCM")."""
    root = git_root(folder)
    if root is None:
        return skipped("no git repository here")
    if _root(folder) is None:
        return skipped("no repository of DVC's here")
    with _stages(folder) as stages:
        outs = {
            Path(out.fs_path).relative_to(root.resolve()).as_posix()
            for stage in stages
            for out in stage.outs
            if out.use_scm_ignore  # DVC's own word for: mine and not git's
        }
    if not outs:
        return ok("DVC owns nothing here yet")
    tracked = git(root, "ls-files", "-z", "--", *(f":(literal){out}" for out in outs)).stdout.split("\0")
    both = sorted(out for out in outs if any(f"{each}/".startswith(f"{out}/") for each in tracked))
    if both:
        paths = " ".join(both)
        return error(
            f"git tracks what DVC owns: {', '.join(both)}", f"git rm -r --cached {paths}, and commit"
        )
    return ok(f"none of the {len(outs)} that DVC owns")


def _root(folder: Path) -> Path | None:
    """DVC's repository that `folder` is in; a .dvc folder without a config is none."""
    for each in (folder.absolute(), *folder.absolute().parents):
        if (each / ".dvc" / "config").is_file():
            return each
    return None


@contextmanager
def _stages(folder: Path) -> Iterator[list[Any]]:
    """Every stage of every file of DVC's.

    Raises:
        RakutenError: one of those files cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with _ONE_AT_A_TIME, Repo(str(_root(folder))) as repo:
        try:
            stages = list(repo.index.stages)
        except DvcException as failure:
            raise RakutenError(f"DVC: {failure}", fix="`dvc stage list` shows the line") from failure
        yield stages
