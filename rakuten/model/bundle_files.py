"""A bundle's files: written and changed in one step, hashed, and checked before anything reads them."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from rakuten.errors import BundleError

# Raised when an older reader would answer wrongly; what it may ignore (a canary set, say) does not raise it.
FORMAT: Final = 1
INFO, WEIGHTS, TOKENIZER = "bundle.json", "weights.safetensors", "tokenizer"
LIMIT_BYTES: Final = 256 * 2**20  # of bundle.json: nothing honest comes near


def copy_bundle(source: Path, target: Path) -> None:
    """A copy that is checked; what is at `target` is replaced when the new one is whole.

    Raises:
        BundleError: `source` is no bundle, torn, or changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        partial.chmod(0o755)
        check_bundle(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def check_bundle(folder: Path) -> dict[str, Any]:
    """The bundle's JSON, when all of it is as it was written; the model is not built.

    Raises:
        BundleError: no bundle there, a file torn or tampered with, or a format this version cannot read.
    """
    info = read_info(folder)
    check_hashes(folder, info["hashes"])
    return info


def add_text(folder: Path, name: str, text: str) -> None:
    """A further file of a bundle, under its hashes like the others."""
    (folder / name).write_text(text, encoding="utf-8")
    add_file(folder, name)


def add_file(folder: Path, name: str, **changes: Any) -> None:
    """Put a file that was written into the bundle under its hashes; fields of the JSON change in the same step."""
    update_info(folder, hashes=read_info(folder)["hashes"] | {name: sha256(folder / name)}, **changes)


def update_info(folder: Path, **changes: Any) -> None:
    """Change fields of a bundle's JSON (calibration, metrics, ...) in one atomic step."""
    write_info(folder, read_info(folder) | changes)


def write_info(folder: Path, info: Mapping[str, Any], name: str = INFO) -> None:
    """The bundle's JSON with its checksum, in one atomic step."""
    body = {key: value for key, value in info.items() if key != "checksum"}
    temporary = folder / (name + ".tmp")
    text = json.dumps(body | {"checksum": checksum(body)}, indent=1, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / name)


def read_info(folder: Path, name: str = INFO) -> dict[str, Any]:
    """The bundle's JSON, checked by its checksum.

    Raises:
        BundleError: no bundle there, torn or changed, or of a format this version cannot read.
    """
    path = folder / name
    if not path.is_file():
        raise BundleError(
            f"no bundle at {folder}",
            expected=f"a folder with {name}",
            fix="train one: python scripts/train.py",
        )
    if path.stat().st_size > LIMIT_BYTES:
        raise BundleError(
            f"{path} is too large", expected=f"<= {LIMIT_BYTES} bytes", got=f"{path.stat().st_size} bytes"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        written = info.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{path} is torn", got=str(error), fix="train again or fetch the bundle anew"
        ) from error
    if info.get("format") != FORMAT:
        raise BundleError(
            f"{path} is of another format",
            expected=FORMAT,
            got=info.get("format"),
            fix="serve it with the version of rakuten that wrote it, or train again",
        )
    if written != checksum(info):
        raise BundleError(
            f"{path} was changed after it was written", fix="train again or fetch the bundle anew"
        )
    return dict(info)


def check_hashes(folder: Path, hashes: Mapping[str, str], info: str = INFO) -> None:
    """Every file as it was written, and none but these and `info`.

    Raises:
        BundleError: a file is missing, torn or changed, is not listed, or a name leads out of the folder.
    """
    if not isinstance(hashes, Mapping) or not all(isinstance(each, str) for each in hashes.values()):
        raise BundleError(f"the bundle at {folder} is torn", expected="a hash for each of its files")
    _check_names(folder, hashes)
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise BundleError(
                f"the bundle's {name} is missing, torn or changed",
                expected=f"sha256 {expected}",
                got=f"sha256 {sha256(path)}" if path.is_file() else "no such file",
                fix="train again or fetch the bundle anew",
            )
    allowed = {*hashes, info, info + ".tmp"}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in allowed and (path.is_symlink() or not path.is_dir()):
            raise BundleError(
                f"the bundle at {folder} holds a file that it does not list",
                got=name,
                fix="remove it if you know it, or fetch the bundle anew",
            )


def _check_names(folder: Path, names: Iterable[str]) -> None:
    """Before any is opened: a file elsewhere is not even to be hashed."""
    inside = folder.resolve()
    for name in names:
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or {"..", ""} & {name, *path.parts}
            or "\\" in name
            or "\0" in name
            or not (folder / name).resolve().is_relative_to(inside)
        ):
            raise BundleError(f"the bundle at {folder} names a file outside itself", got=repr(name))


def checksum(info: Mapping[str, Any]) -> str:
    """Of a bundle's JSON, as `read_info` gives it."""
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
