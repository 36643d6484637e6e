"""Python, packages, torch and disks: what is said when they are not as they should be."""

from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage, which

import pytest

from rakuten.doctor.check import Severity
from rakuten.doctor.machine import check_disks, check_holes, check_packages, check_python, check_torch
from tests.doctor.conftest import assert_finding

OK, WARNING, ERROR = Severity.OK, Severity.WARNING, Severity.ERROR


def install(site: Path, name: str, version: str, *headers: str) -> None:
    """What an installer leaves of a package for others to know that it is there."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages before all others."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_python() -> None:
    assert_finding(check_python(), OK, "3.")
    assert_finding(check_python((3, 10, 14)), ERROR, "3.10.14", "needed is >=3.11", cure="python3.11")


def test_this_environment_is_as_it_should_be() -> None:
    assert_finding(check_packages(), OK, "as pyproject.toml asks")
    assert_finding(check_holes(), OK, "torch", "mlflow")


def test_a_package_of_the_wrong_version_and_one_that_is_missing(site: Path) -> None:
    asked = [
        "numpy>=99",
        "tokenizers>=0.1",
        "no-such-package>=1; extra == 'train'",
        "nor-this; extra == 'dev'",
    ]
    extras = ["Provides-Extra: train", "Provides-Extra: dev"]
    install(site, "rakuten", "0.1.0", *extras, *(f"Requires-Dist: {each}" for each in asked))
    finding = check_packages()
    assert_finding(
        finding, ERROR, "numpy 2.", "needed: >=99", "no-such-package is missing", cure="requirements.lock"
    )
    assert "tokenizers" not in finding.found
    assert "nor-this" not in finding.found, "what is for developers alone may be missing"


def test_what_is_optional_must_fit_where_it_is_there(site: Path) -> None:
    lines = ["Provides-Extra: dev", "Requires-Dist: pytest<2; extra == 'dev'"]
    install(site, "rakuten", "0.1.0", *lines)
    assert_finding(check_packages(), ERROR, "pytest", "needed: <2")


@pytest.mark.parametrize(
    ("name", "version", "safe"),
    [
        ("torch", "2.9.1", ">=2.10"),
        ("mlflow", "3.10.1", ">=3.11"),
        ("bentoml", "1.4.38", ">=1.4.39"),
        ("python-multipart", "0.0.26", ">=0.0.27"),
    ],
)
def test_a_known_hole(site: Path, name: str, version: str, safe: str) -> None:
    install(site, name, version)
    assert_finding(check_holes(), ERROR, f"{name} {version} (safe: {safe})", cure="requirements.lock")


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_a_malicious_release(site: Path, version: str) -> None:
    install(site, "lightning", version)
    assert_finding(
        check_holes(), ERROR, f"lightning {version} is a malicious release", cure="change every password"
    )


def test_the_release_after_the_malicious_ones_is_good(site: Path) -> None:
    install(site, "lightning", "2.6.6")
    assert_finding(check_holes(), OK, "lightning")


@pytest.mark.slow
def test_no_gpu_where_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert_finding(check_torch(wants_gpu=True), WARNING, "torch 2.", "no GPU is seen", cure="nvidia-smi")


@pytest.mark.gpu
@pytest.mark.skipif(which("nvidia-smi") is None, reason="needs a CUDA GPU")
def test_a_gpu_is_named() -> None:
    assert_finding(check_torch(wants_gpu=True), OK, "torch 2.", "CUDA", " on ")


@pytest.mark.slow
def test_torchvision_of_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one without its compiled half, as it is beside a torch that it was not built for."""
    spec = find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    (tmp_path / "torchvision").mkdir()
    for path in Path(spec.origin).parent.iterdir():
        if path.suffix != ".so":
            (tmp_path / "torchvision" / path.name).symlink_to(path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert_finding(
        check_torch(wants_gpu=False), ERROR, "two builds", "torchvision::nms does not exist", cure="with uv"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "torch crashes (signal 11)"),
        ("import libnothere", "torch does not load: ModuleNotFoundError: No module named 'libnothere'"),
    ],
)
def test_torch_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (tmp_path / "torch.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert_finding(check_torch(wants_gpu=False), ERROR, said, cure="requirements.lock")


def test_torch_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("rakuten.doctor.machine.TORCH_S", 1)
    assert_finding(check_torch(wants_gpu=False), ERROR, "did not load within 1 s")


def test_disks(tmp_path: Path) -> None:
    free = disk_usage(tmp_path).free / 2**30
    places = [tmp_path / "outputs", tmp_path / "data" / "raw"]
    assert_finding(check_disks(places, 0), OK, "GiB free at", "outputs")
    assert_finding(check_disks(places, 2 * free), WARNING, "GiB free", cure="make room")
    assert_finding(check_disks(places, 20 * free), ERROR, "GiB free", cure="make room")
    assert not list(tmp_path.iterdir()), "a look makes nothing"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    assert_finding(check_disks([tmp_path / "outputs/runs"], 0), ERROR, "cannot be written: Not a directory")
    assert_finding(check_disks([Path("/proc/rakuten")], 0), ERROR, "/proc/rakuten cannot be written")
