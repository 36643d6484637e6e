"""The machine: Python, packages, torch with its GPU, room on the disks."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from shutil import disk_usage

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rakuten.doctor.check import Finding, error, ok, warning

PACKAGE = "rakuten"
REQUIRED_EXTRAS = {"", "train"}  # without the others some scripts work and some do not
# Versions with holes that are known, wherever a package comes from; what pyproject.toml asks for is read from there.
SAFE = {
    "bentoml": ">=1.4.39",
    "lightning": "!=2.6.2,!=2.6.3",
    "mlflow": ">=3.11",
    "python-multipart": ">=0.0.27",
    "torch": ">=2.10",
}
MALICIOUS = {"lightning"}
TORCH_S = 120  # its first import on a slow disk
_INSTALL = "uv pip install --require-hashes -r requirements.lock"
_PROBE = """
import json, torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
gpus, problem = [], None
if torch.cuda.is_available():
    try:
        gpus = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
        torch.ones(1, device="cuda").add(1).item()
    except Exception as error:
        problem = str(error).splitlines()[0]
versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "cuda": torch.version.cuda}
print(json.dumps(versions | {"gpus": gpus, "problem": problem}))
"""


def check_python(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    asked = metadata.metadata(PACKAGE)["Requires-Python"]
    found = ".".join(map(str, version))
    if found in SpecifierSet(asked):
        return ok(f"{found} at {sys.executable}")
    return error(f"{found} at {sys.executable}, needed is {asked}", "make PYTHON=python3.11 demo")


def check_packages() -> Finding:
    """Against the bounds that pyproject.toml gave the installed distribution."""
    missing, wrong, fitting = [], [], 0
    for requirement, is_required in _requirements():
        version = _version(requirement.name)
        if version is None:
            missing += [requirement.name] if is_required else []
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (needed: {requirement.specifier})")
        else:
            fitting += 1
    if missing or wrong:
        return error("; ".join([*wrong, *(f"{name} is missing" for name in missing)]), _INSTALL)
    return ok(f"{fitting} packages as pyproject.toml asks")


def _requirements() -> Iterable[tuple[Requirement, bool]]:
    """What this environment is to hold, and whether nothing works without it."""
    extras = ["", *(metadata.metadata(PACKAGE).get_all("Provides-Extra") or [])]
    for text in metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        asking = {extra for extra in extras if marker is None or marker.evaluate({"extra": extra})}
        if asking:
            yield requirement, bool(asking & REQUIRED_EXTRAS)


def check_holes() -> Finding:
    """Known security holes, and releases that steal secrets."""
    versions = {name: version for name in SAFE if (version := _version(name)) is not None}
    bad = [name for name, version in versions.items() if not SpecifierSet(SAFE[name]).contains(version)]
    if thieves := [f"{name} {versions[name]}" for name in bad if name in MALICIOUS]:
        return error(
            f"{', '.join(thieves)} is a malicious release",
            f"pip uninstall {' '.join(name for name in bad if name in MALICIOUS)}; "
            "then change every password and key that this machine has",
        )
    if bad:
        told = ", ".join(f"{name} {versions[name]} (safe: {SAFE[name]})" for name in bad)
        return error(f"known security holes: {told}", _INSTALL)
    return ok(f"none known in {', '.join(versions)}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_torch(wants_gpu: bool) -> Finding:
    """Imports both in a process of their own, since what does not fit crashes natively."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=TORCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        return error(f"torch did not load within {TORCH_S} s", "see whether the disk of .venv hangs")
    if done.returncode != 0:
        return _torch_failure(done)
    seen = json.loads(done.stdout.splitlines()[-1])
    told = f"torch {seen['torch']} with torchvision {seen['torchvision']}"
    if seen["problem"]:
        return error(
            f"{told}; {', '.join(seen['gpus'])} cannot be used: {seen['problem']}",
            "install the driver that torch's CUDA needs, or train with trainer=cpu",
        )
    if seen["gpus"]:
        return ok(f"{told}, CUDA {seen['cuda']} on {', '.join(seen['gpus'])}")
    if wants_gpu:
        return warning(
            f"{told}, and no GPU is seen (CUDA {seen['cuda'] or 'not built in'})",
            "trainer=cpu trains anywhere; on a GPU machine see what `nvidia-smi` says",
        )
    return ok(f"{told}, no GPU")


def _torch_failure(done: "subprocess.CompletedProcess[str]") -> Finding:
    if done.returncode < 0:
        return error(f"torch crashes (signal {-done.returncode})", f"reinstall it: {_INSTALL}")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if "torchvision::" in last:
        return error(
            f"torch and torchvision are of two builds ({last})",
            f"take both from the lock, with uv and not with pip: {_INSTALL} --reinstall",
        )
    return error(f"torch does not load: {last}", _INSTALL)


def check_disks(folders: Iterable[Path], floor_gib: float) -> Finding:
    """Room where results go, and whether anything can be written there."""
    told: dict[int, tuple[float, Path]] = {}  # the tightest folder of each disk
    for folder in folders:
        place = nearest_folder(folder)
        if problem := not_writable(place):
            return error(
                f"{folder} cannot be written: {problem}", "make it writable, or choose another folder"
            )
        told.setdefault(place.stat().st_dev, (disk_usage(place).free / 2**30, folder))
    shown = ", ".join(f"{free:.1f} GiB free at {folder}" for free, folder in told.values())
    least = min(free for free, _ in told.values())
    if least >= floor_gib:
        return ok(shown)
    cure = f"make room: disk_free_gib={floor_gib:g} are asked for; old runs lie below outputs_dir"
    return (error if least < floor_gib / 5 else warning)(shown, cure)


def nearest_folder(path: Path) -> Path:
    """The folder itself, or what is there of its parents."""
    path = path.absolute()
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def not_writable(folder: Path) -> str | None:
    """Why nothing can be written in a folder; tried, since rights tell nothing of a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as failure:
        return failure.strerror or os.strerror(failure.errno or 0)
