"""`bentoml build`: what is in the bento and what is not, and that it serves as its image would run it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.serve.conftest import StartIn

pytestmark = pytest.mark.slow
MAX_BYTES = 5_000_000
CODE = ("config", "data", "model", "monitor", "serve")  # of the package
# What may lie about where somebody builds.
LITTER = ("outputs/inference.db", "outputs/run/bundle/weights.safetensors", "data/demo/X_train.csv", ".env")
LITTER += ("models/bundle.json", "rakuten/serve/.env", "rakuten/serve/notes.csv", "conf/secrets.yaml")


@dataclass(frozen=True)
class Built:
    """A bento in a store of its own, and its folder."""

    home: Path
    folder: Path

    @property
    def files(self) -> dict[str, int]:
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in paths}


def bento_cli(*arguments: str, home: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments],
        cwd=folder,
        env=os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(origin: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder, home = tmp_path_factory.mktemp("build") / "checkout", tmp_path_factory.mktemp("home")
    subprocess.run(["git", "clone", "--quiet", str(origin), str(folder)], check=True)
    for name in LITTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("hunter2")
    deliver = (
        "import sys; from pathlib import Path; from rakuten.serve.publish import deliver;"
        "deliver(Path('outputs'), model='rakuten', version='1', run_id='r', uuid=None, bundle=Path(sys.argv[1]))"
    )
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    subprocess.run([sys.executable, "-c", deliver, str(bundle)], cwd=folder, env=environment, check=True)
    bento_cli("build", home=home, folder=folder)
    [bento] = (home / "bentos/rakuten").glob("*/")
    return Built(home, bento)


def test_it_holds_the_service_and_nothing_else(built: Built) -> None:
    files = built.files
    assert sum(files.values()) < MAX_BYTES
    names = {name.removeprefix("src/") for name in files if name.startswith("src/")}
    packages = {name.split("/")[1] for name in names if name.startswith("rakuten/") and name.count("/") > 1}
    assert packages == set(CODE)
    others = {name for name in names if not name.startswith("rakuten/")}
    assert others == {"bentofile.yaml", "conf/serve.yaml", "LICENSE"}
    suffixes = {Path(name).suffix for name in names if name.startswith("rakuten/")}
    assert suffixes <= {".py", ".html", ".css", ".js", ".svg", ".jpg", ".woff2", ".txt"}
    assert {"rakuten/serve/page/index.html", "rakuten/serve/docs_page/index.html"} <= names
    assert not [name for name in files if b"hunter2" in (built.folder / name).read_bytes()]


def test_it_names_its_model_and_does_not_hold_it(built: Built) -> None:
    info = yaml.safe_load((built.folder / "bento.yaml").read_text())
    assert [(each["tag"], each["alias"]) for each in info["models"]] == [("rakuten:1", "champion")]
    assert not [name for name in built.files if "weights" in name or name.startswith("models")]


def test_its_packages_are_those_of_the_lock_with_hashes_and_without_an_address(built: Built) -> None:
    wanted = (built.folder / "env/python/requirements.txt").read_text()
    pin = re.compile(r"^([A-Za-z0-9._-]+(?:\[[^]]*\])?==[^\s;]+)", re.MULTILINE)
    assert set(pin.findall(wanted)) == set(pin.findall((ROOT / "deploy/serve.lock").read_text()))
    entries = [each for each in re.split(r"\n(?=\S)", wanted) if each.strip()]
    unhashed = [each.strip() for each in entries if "--hash=sha256:" not in each]
    assert unhashed == [f"bentoml=={version('bentoml')}"], (
        "BentoML adds itself once more; the lock has its hash"
    )
    assert "://" not in wanted


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n", " ", dockerfile).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line and line[0].isupper()]


def test_its_dockerfile(built: Built) -> None:
    dockerfile = (built.folder / "env/docker/Dockerfile").read_text()
    found = instructions(dockerfile)
    [image] = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert image == (ROOT / "deploy/mlflow.Dockerfile").read_text().split()[1], "one Python for all images"
    for word, rest in found:
        if word in ("COPY", "ADD"):
            *sources, _ = [each for each in rest.split() if not each.startswith("--")]
            for source in sources:
                assert (built.folder / source).exists(), source
    users = [rest for word, rest in found if word == "USER"]
    assert users[-1] not in ("root", "0")
    assert found.index(("USER", users[-1])) > max(i for i, (word, _) in enumerate(found) if word == "RUN")
    [entrypoint] = [rest for word, rest in found if word == "ENTRYPOINT"]
    [program] = yaml.safe_load(entrypoint)
    assert (built.folder / program.removeprefix("/home/bentoml/bento/")).is_file()
    given = dict(rest.split("=", 1) for word, rest in found if word in ("ENV", "ARG") and "=" in rest)
    assert not [name for name in given if re.search("KEY|SECRET|PASSWORD|TOKEN", name)]
    assert any("env/python/requirements.txt" in rest for word, rest in found if word == "RUN")


def test_it_serves_as_its_image_runs_it(built: Built, tmp_path: Path, start_in: StartIn) -> None:
    """All that is copied into the image, at another place, without a store; started by the image's own script."""
    packed = tmp_path / "packed.tar"
    bento_cli("export", f"rakuten:{built.folder.name}", str(packed), home=built.home, folder=tmp_path)
    container = tmp_path / "home/bento"
    [archive] = tmp_path.glob("packed*")
    with tarfile.open(archive) as file:
        file.extractall(container, filter="data")
    root = container if (container / "bento.yaml").is_file() else next(container.iterdir())
    bash = shutil.which("bash")
    assert bash
    service = start_in(
        root,
        command=[bash, "env/docker/entrypoint.sh"],
        variables={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "BENTO_PATH": str(root),
            "BENTOML_HOME": str(tmp_path / "home"),
            "BENTOML_CONTAINERIZED": "true",
            "BENTOML_HOST": "127.0.0.1",
        },
    ).wait_until_ready()
    with service.client() as client:
        answer = client.post("/predict", json={"designation": "Piscine ronde"})
        assert answer.json()["model_version"] == "1"
        assert client.get("/").status_code == 200
        assert client.get("/docs").status_code == 200
    [worker] = service.workers
    assert str(root) in worker.cwd(), "from the bento's own code"
    assert "rakuten:1 of BentoML's store" in service.said
    assert service.terminate() == 0


def test_a_bento_keeps_the_model_that_it_was_built_with(
    built: Built, other_bundle: Path, tmp_path: Path, start_in: StartIn
) -> None:
    home = shutil.copytree(built.home, tmp_path / "home")
    deliver = (
        "import sys; from pathlib import Path; from rakuten.serve.publish import deliver;"
        "deliver(Path('outputs'), model='rakuten', version='2', run_id='r', uuid=None, bundle=Path(sys.argv[1]))"
    )
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    subprocess.run(
        [sys.executable, "-c", deliver, str(other_bundle)], cwd=tmp_path, env=environment, check=True
    )
    tag = f"rakuten:{built.folder.name}"
    (tmp_path / "elsewhere").mkdir()
    service = start_in(
        tmp_path / "elsewhere",
        command=shlex.split(f"{sys.executable} -m bentoml serve --host 127.0.0.1 {tag}"),
        variables={"BENTOML_HOME": str(home)},
    ).wait_until_ready()
    with service.client() as client:
        assert client.get("/health").json()["model_version"] == "1"
