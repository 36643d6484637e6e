"""The way back from a bundle: run, commit, config, pipeline, data; all of it hashed again as far as it is at hand."""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from rakuten.config import DataConfig
from rakuten.data.ingest import ingest
from rakuten.errors import RakutenError
from rakuten.experiment.lineage import DIFF, UUID_TAG, digest, git
from rakuten.experiment.locate import Located
from rakuten.experiment.runs import CONFIG
from rakuten.experiment.tracking.registry import BUNDLE, Registry
from rakuten.experiment.tracking.store import RUN_TAG
from rakuten.model.bundle_files import INFO

LOCK = "dvc.lock"
_SAME_IN_RUN = (RUN_TAG, UUID_TAG, "git_commit", "git_diff_sha256", "data_fingerprint")
State = Literal["ok", "absent", "mismatch"]


@dataclass(frozen=True)
class Step:
    """One thing on the way: `ok` is as it was recorded, `absent` not at hand, `mismatch` something else."""

    what: str
    state: State
    found: str


def trace(found: Located, registry: Registry, repository: Path, console: Console) -> list[Step]:
    """Every step of the way back, the bundle first.

    Raises:
        RakutenError: MLflow cannot be used.
    """
    lineage = found.info["lineage"]
    steps = [Step("bundle", "ok", f"{found.bundle}: {len(found.info['hashes'])} files as they were written")]
    steps += _run(found, registry)
    steps += _commit(lineage, repository)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = _artifacts(found, registry, Path(folder))
        steps += [_diff(lineage, artifacts)] if lineage.get("git_diff_sha256") else []
        steps += _config(found, artifacts)
        steps += _lock(found, artifacts, repository)
        steps += _data(lineage, artifacts, console)
    return steps


def _run(found: Located, registry: Registry) -> Iterator[Step]:
    if found.run_id is None:
        yield Step("run", "absent", f"{found.run_name} is not in this MLflow")
        return
    tags, lineage = registry.run_tags(found.run_id), found.info["lineage"]
    other = [name for name in _SAME_IN_RUN if tags.get(name) != lineage.get(name)]
    said = ", ".join(f"{name} is {tags.get(name)}, the bundle says {lineage.get(name)}" for name in other)
    name = f"{found.run_name}, {registry.run_status(found.run_id)}, {found.run_id} in MLflow"
    yield Step("run", "mismatch" if other else "ok", said or name)
    version = registry.version_of(found.run_id)
    if version is not None:
        yield Step("version", "ok", f"{registry.name} {version.number}")
    with tempfile.TemporaryDirectory() as folder:
        if BUNDLE in registry.artifacts(found.run_id):
            copy = registry.download(found.run_id, f"{BUNDLE}/{INFO}", Path(folder))
            same = json.loads(copy.read_text(encoding="utf-8"))["hashes"] == found.info["hashes"]
            text = "the same files" if same else "other files than this bundle's"
            yield Step("bundle in MLflow", "ok" if same else "mismatch", text)
        else:
            yield Step("bundle in MLflow", "absent", "not delivered yet: scripts/doctor.py deliver=true")


def _commit(lineage: dict[str, Any], repository: Path) -> Iterator[Step]:
    commit = lineage.get("git_commit")
    if commit is None:
        yield Step("commit", "absent", "it was trained outside a repository")
        return
    try:
        subject = git(repository, "log", "-1", "--format=%h %s", commit).strip()
        yield Step("commit", "ok", subject)
    except (subprocess.SubprocessError, OSError):
        yield Step("commit", "absent", f"{commit} is not in this repository: git fetch --all")


def _artifacts(found: Located, registry: Registry, folder: Path) -> dict[str, str]:
    """The run's small text artifacts by name; what the run's own folder holds where MLflow has none."""
    texts = {}
    names = registry.artifacts(found.run_id) if found.run_id else []
    for name in (CONFIG, DIFF, LOCK):
        here = found.bundle.parent / "checkpoints" / name
        if name in names and found.run_id:
            texts[name] = registry.download(found.run_id, name, folder).read_text(encoding="utf-8")
        elif here.is_file():
            texts[name] = here.read_text(encoding="utf-8")
    return texts


def _diff(lineage: dict[str, Any], artifacts: dict[str, str]) -> Step:
    text = artifacts.get(DIFF)
    if text is None:
        return Step("uncommitted changes", "absent", f"the run has no {DIFF}")
    same = digest(text) == lineage["git_diff_sha256"]
    lines = f"{text.count(chr(10)):,} lines of {DIFF}, as when it was trained"
    return Step("uncommitted changes", "ok" if same else "mismatch", lines if same else f"another {DIFF}")


def _config(found: Located, artifacts: dict[str, str]) -> Iterator[Step]:
    if CONFIG not in artifacts:
        yield Step("config", "absent", f"the run has no {CONFIG}")
        return
    config = yaml.safe_load(artifacts[CONFIG])
    wrong = [
        name
        for name, recorded, own in (
            ("model", config["model"], found.info["model"]),
            ("seed", config["seed"], found.info["lineage"]["seed"]),
            ("data.split", config["data"]["split"], found.info["lineage"]["split"]),
        )
        if recorded != own
    ]
    yield Step("config", "mismatch" if wrong else "ok", f"{', '.join(wrong)} differ" if wrong else CONFIG)


def _lock(found: Located, artifacts: dict[str, str], repository: Path) -> Iterator[Step]:
    """What the pipeline's lock says of the bundle, and of every file that it names and that is here."""
    if LOCK not in artifacts:
        yield Step("pipeline", "absent", "the run was made by hand, not by a stage")
        return
    stages = yaml.safe_load(artifacts[LOCK])["stages"]
    train = stages.get("train", {"outs": [], "deps": []})
    same = dvc_md5(found.bundle) in {out["md5"] for out in train["outs"]}
    yield Step(
        "pipeline",
        "ok" if same else "mismatch",
        f"{LOCK}: this bundle is what the stage train left" if same else f"{LOCK} names another bundle",
    )
    entries = [
        entry
        for stage in (stages.get("ingest"), stages.get("features"))
        if stage
        for entry in [*stage["deps"], *stage["outs"]]
        if not entry["path"].startswith("rakuten/")  # the commit answers for code
    ]
    for entry in {entry["path"]: entry for entry in entries}.values():
        path = repository / entry["path"]
        if not path.exists():
            yield Step("data", "absent", entry["path"])
        elif dvc_md5(path) == entry["md5"]:
            yield Step("data", "ok", entry["path"])
        else:
            yield Step("data", "mismatch", f"{entry['path']} has changed since")


def _data(lineage: dict[str, Any], artifacts: dict[str, str], console: Console) -> Iterator[Step]:
    """The raw catalogue, ingested again into a folder of its own."""
    try:
        data = TypeAdapter(DataConfig).validate_python(yaml.safe_load(artifacts[CONFIG])["data"])
    except (KeyError, ValidationError):
        yield Step("raw data", "absent", "the run's config is not of this version")
        return
    if not data.root.is_dir():
        yield Step("raw data", "absent", str(data.root))
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            elsewhere = replace(data, interim_dir=Path(folder))  # type: ignore[type-var]
            report = ingest(elsewhere, console=console)
        except RakutenError as error:
            yield Step("raw data", "mismatch", f"{data.root}: {error.problem}")
            return
    changed = [name for name, value in lineage["data"].items() if report.fingerprint.get(name) != value]
    words = f"{data.root}: {', '.join(changed)} changed since" if changed else f"{data.root}: the same"
    yield Step("raw data", "mismatch" if changed else "ok", words)


def dvc_md5(path: Path) -> str:
    """What DVC 3 writes into its lock for a file or a folder."""
    if path.is_file():
        digest_of = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest_of.update(block)
        return digest_of.hexdigest()
    files = (each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
    listing = sorted(
        ({"md5": dvc_md5(each), "relpath": each.relative_to(path).as_posix()} for each in files),
        key=lambda entry: entry["relpath"],
    )
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"
