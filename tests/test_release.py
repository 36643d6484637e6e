"""What a release does to the registry and to the serving machine.

No engine runs where these tests do, so `docker`, `ssh` and `gh` are stand-ins, for these scripts alone: `docker` keeps a
registry and a machine's containers in a folder, and is sick where the test says so; `ssh` runs its command here; `make`,
which would look at the containers, only notes that it was asked. Everything else is real: the scripts, the workflow's commands, git, tar.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.workflows import git, run, steps

IMAGES = "ghcr.io/owner/project"
KNOWN = {
    "github.token": "hunter2",
    "secrets.DEPLOY_KEY": "hunter2",
    "vars.DEPLOY_HOST": "shop.example.invalid",
    "vars.DEPLOY_USER": "deployer",
    "vars.DEPLOY_KNOWN_HOSTS": "shop.example.invalid ssh-ed25519 AAAA",
}
DOCKER = r"""#!/usr/bin/env bash
# $STATE: log, registry (images that are in it), sick and missing (tags), down (the registry is), running (a tag)
cd "$STATE"
said="docker $*"
echo "$said" >>log
[[ $said =~ releases/([^/]+)/deploy/compose.yaml ]] && tag=${BASH_REMATCH[1]}
case "$said" in
  "docker login"*) read -r password; [ -n "$password" ] ;;
  "docker build"*) ;;
  "docker manifest inspect"*)
    [ ! -e down ] || { echo "502 Bad Gateway" >&2; exit 1; }
    grep -qxF "$3" registry 2>/dev/null || { echo "manifest unknown" >&2; exit 1; } ;;
  "docker push"*) echo "$2" >>registry ;;
  *" pull "*) ! grep -qxF "$tag" missing 2>/dev/null ;;
  *" up "*)
    echo "$tag" >running
    [ -z "${RAKUTEN_TAG:-}" ] || exit 3
    ! grep -qxF "$tag" sick 2>/dev/null ;;
  *" ps "*) echo "mlflow is unhealthy" ;;
  *) echo "the stand-in knows no: $said" >&2; exit 9 ;;
esac
"""
SSH = """#!/usr/bin/env bash
[ "$1" = production ] && shift && exec bash -c "$*"
"""
GH = """#!/usr/bin/env bash
echo "gh $*" >>"$STATE/log"
"""
MAKE = """#!/usr/bin/env bash
echo "make $*" >>"$STATE/log"
[ ! -e "$STATE/idle" ]
"""


class Bench:
    """A checkout of the project, a registry and a serving machine."""

    def __init__(self, folder: Path, checkout: Path):
        self.checkout = checkout
        self.state, self.machine = folder / "state", folder / "machine"
        programs = folder / "programs"
        for place in (self.state, self.machine, programs, folder / "home", folder / "temp"):
            place.mkdir()
        for name, content in {"docker": DOCKER, "ssh": SSH, "gh": GH, "make": MAKE}.items():
            (programs / name).write_text(content)
            (programs / name).chmod(0o755)
        (self.machine / ".env").write_text("POSTGRES_PASSWORD=hunter2\n")
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "STATE": str(self.state),
            "HOME": str(folder / "home"),
            "RUNNER_TEMP": str(folder / "temp"),
            "GITHUB_ACTOR": "somebody",
            "GITHUB_REPOSITORY": "Owner/Project",
            "GITHUB_REF_NAME": "v0.1.0",
        }

    def bash(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *map(str, arguments)],
            cwd=self.checkout,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def images(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.bash("deploy/images.sh", *arguments)

    def tag(self) -> str:
        return self.images("tag").stdout.strip()

    def next_release(self) -> str:
        """A further commit, brought to the machine but not started; its tag."""
        git(self.checkout, "commit", "--quiet", "--allow-empty", "--message=Next")
        packed = self.bash("-c", f"bash deploy/images.sh pack {IMAGES} | tar -x -C '{self.machine}'")
        assert packed.returncode == 0, packed.stdout
        return self.tag()

    def change(self, tag: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.bash(self.machine / f"releases/{tag}/deploy/release.sh", *arguments)

    def mark(self, name: str, *tags: str) -> None:
        (self.state / name).write_text("\n".join(tags) + "\n")

    def lines(self, name: str, beginning: str = "") -> list[str]:
        path = self.state / name
        found = path.read_text().splitlines() if path.exists() else []
        return [line for line in found if line.startswith(beginning)]

    def running(self) -> str:
        return (self.state / "running").read_text().strip()

    def current(self) -> str | None:
        path = self.machine / "current"
        return path.read_text().strip() if path.exists() else None

    def workflow(self, job: str) -> list[tuple[str, str]]:
        """The job's steps as a runner takes them, up to the first that fails; their names and what they printed."""
        done = []
        for each in steps():
            if each.key.startswith(f"release/{job}/"):
                environment = self.environment | {"DEPLOY_DIR": str(self.machine)}
                own = {name: value for name, value in each.env.items() if name != "DEPLOY_DIR"}
                result = run(type(each)(each.key, each.run, own), self.checkout, environment, KNOWN)
                done.append((each.key.rpartition("/")[2], result.stdout))
                if result.returncode != 0:
                    return done
        return [*done, ("done", "")]


@pytest.fixture
def bench(tmp_path: Path, checkout: Path) -> Bench:
    return Bench(tmp_path, checkout)


def dockerfiles(bench: Bench) -> list[str]:
    return sorted(path.stem for path in (bench.checkout / "deploy").glob("*.Dockerfile"))


def test_scripts_are_sound() -> None:
    program = shutil.which("shellcheck")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("shellcheck is missing: apt-get install shellcheck")
    assert program, "shellcheck is missing: .ci/run installs it"
    scripts = [*sorted((ROOT / "deploy").glob("*.sh")), ROOT / ".ci/run"]
    assert len(scripts) >= 3
    done = subprocess.run([program, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_dockerfile_is_built_under_version_and_commit(bench: Bench) -> None:
    (bench.checkout / "deploy/another.Dockerfile").write_text("FROM scratch\n")
    names = dockerfiles(bench)
    assert "another" in names
    assert "mlflow" in names
    tag = bench.tag()
    assert tag == f"{bench.images('version').stdout.strip()}-{git(bench.checkout, 'rev-parse', 'HEAD')[:12]}"
    done = bench.images("build", "ghcr.io/Owner/Project")
    assert done.returncode == 0, done.stdout
    built = bench.lines("log", "docker build")
    for name in names:
        [line] = [line for line in built if f"--file deploy/{name}.Dockerfile" in line]
        assert f"--tag {IMAGES}-{name}:{tag} " in line
    assert len(built) == len(names)


def test_a_tag_is_given_once(bench: Bench) -> None:
    assert bench.images("push", IMAGES).returncode == 0
    pushed = bench.lines("registry")
    assert pushed == [f"{IMAGES}-{name}:{bench.tag()}" for name in dockerfiles(bench)]
    again = bench.images("push", IMAGES)
    assert again.returncode == 1
    assert "exists already" in again.stdout
    assert bench.images("absent", IMAGES).returncode == 1
    assert bench.lines("registry") == pushed


def test_nothing_is_pushed_where_one_image_has_the_tag(bench: Bench) -> None:
    (bench.checkout / "deploy/zz.Dockerfile").write_text("FROM scratch\n")
    bench.mark("registry", f"{IMAGES}-zz:{bench.tag()}")
    assert bench.images("push", IMAGES).returncode == 1
    assert bench.lines("log", "docker push") == []


def test_a_registry_that_does_not_answer_is_not_an_empty_one(bench: Bench) -> None:
    bench.mark("down")
    done = bench.images("push", IMAGES)
    assert done.returncode == 1
    assert "502 Bad Gateway" in done.stdout
    assert bench.lines("log", "docker push") == []


@pytest.mark.parametrize("arguments", [(), ("build",), ("pull", IMAGES)])
def test_a_mistyped_command_is_told(bench: Bench, arguments: tuple[str, ...]) -> None:
    done = bench.images(*arguments)
    assert done.returncode == 1
    assert "deploy/images.sh" in done.stdout
    assert bench.lines("log") == []


def test_a_release_replaces_the_one_before(bench: Bench) -> None:
    first = bench.next_release()
    assert bench.change(first).returncode == 0
    second = bench.next_release()
    assert (bench.current(), bench.running()) == (first, first)
    done = bench.change(second)
    assert done.returncode == 0, done.stdout
    assert (bench.current(), bench.running()) == (second, second)
    assert (bench.machine / "previous").read_text().strip() == first
    [line] = [line for line in bench.lines("log") if " up " in line and second in line]
    assert "--wait" in line
    assert "--no-build" in line
    assert f"--env-file releases/{second}/release.env" in line
    images = (bench.machine / f"releases/{second}/release.env").read_text()
    assert images == f"RAKUTEN_IMAGES={IMAGES}\nRAKUTEN_TAG={second}\n"


def test_a_release_that_is_not_healthy_gives_way_to_the_one_before(bench: Bench) -> None:
    first = bench.next_release()
    bench.change(first)
    second = bench.next_release()
    bench.mark("sick", second)
    done = bench.change(second)
    assert done.returncode == 1
    assert "mlflow is unhealthy" in done.stdout
    assert f"went back to {first}" in done.stdout
    assert (bench.current(), bench.running()) == (first, first)
    bench.mark("sick")
    assert bench.change(second).returncode == 0, "the next try finds the machine in order"
    assert bench.current() == second


def test_where_neither_is_healthy_it_says_so(bench: Bench) -> None:
    first = bench.next_release()
    bench.change(first)
    second = bench.next_release()
    bench.mark("sick", first, second)
    done = bench.change(second)
    assert done.returncode == 2
    assert f"{first}, the release before it, is not healthy either" in done.stdout


def test_a_first_release_has_nothing_to_go_back_to(bench: Bench) -> None:
    first = bench.next_release()
    bench.mark("sick", first)
    done = bench.change(first)
    assert done.returncode == 2
    assert "no other release" in done.stdout
    assert bench.current() is None
    assert bench.change(first, "back").returncode == 1


def test_a_missing_image_is_found_before_anything_stops(bench: Bench) -> None:
    first = bench.next_release()
    bench.change(first)
    second = bench.next_release()
    bench.mark("missing", second)
    done = bench.change(second)
    assert done.returncode == 1
    assert "nothing was changed" in done.stdout
    assert (bench.current(), bench.running()) == (first, first)


def test_back_by_hand_and_forth_again(bench: Bench) -> None:
    first = bench.next_release()
    bench.change(first)
    second = bench.next_release()
    bench.change(second)
    assert bench.change(second, "back").returncode == 0
    assert (bench.current(), bench.running()) == (first, first)
    assert bench.change(first, "back").returncode == 0
    assert (bench.current(), bench.running()) == (second, second)
    assert bench.change(first).returncode == 0, "any release that is still there"
    assert bench.current() == first


def test_two_releases_at_once_do_not_mix(bench: Bench) -> None:
    first = bench.next_release()
    with (bench.machine / ".release.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = bench.change(first)
        assert done.returncode == 1
        assert "another release is under way" in done.stdout
        assert bench.lines("log", "docker compose") == []
    assert bench.change(first).returncode == 0


def test_a_machine_without_its_values_is_left_alone(bench: Bench) -> None:
    first = bench.next_release()
    (bench.machine / ".env").unlink()
    done = bench.change(first)
    assert done.returncode == 1
    assert ".env.example" in done.stdout
    assert (bench.machine / f"releases/{first}/.env.example").is_file()
    assert bench.lines("log", "docker compose") == []


def test_what_the_shell_has_set_chooses_no_image(bench: Bench) -> None:
    first = bench.next_release()
    bench.environment["RAKUTEN_TAG"] = "something-else"
    assert bench.change(first).returncode == 0


def test_the_workflow_starts_the_stack_before_it_pushes(bench: Bench) -> None:
    done = bench.workflow("images")
    assert done[-1][0] == "done", done[-1]
    log = bench.lines("log")
    kinds = [
        next(
            kind
            for kind in ("login", "manifest", "docker build", " up ", "push", "pull", "make")
            if kind in line
        )
        for line in log
    ]
    order = list(dict.fromkeys(kinds))
    assert order == ["login", "manifest", "docker build", "pull", " up ", "make", "push"]
    assert bench.lines("registry") == [f"{IMAGES}-{name}:{bench.tag()}" for name in dockerfiles(bench)]
    assert "hunter2" not in "".join([*log, *(said for _, said in done)])


@pytest.mark.parametrize(("ill", "fails"), [("sick", "smoke test"), ("idle", "a run through the stack")])
def test_the_workflow_pushes_nothing_that_does_not_work(bench: Bench, ill: str, fails: str) -> None:
    bench.mark(ill, bench.tag())
    done = bench.workflow("images")
    assert done[-1][0] == fails
    assert bench.lines("registry") == []


def test_the_workflow_deploys_and_goes_back(bench: Bench) -> None:
    first = bench.tag()
    done = bench.workflow("deploy")
    assert done[-1][0] == "done", done[-1]
    assert (bench.current(), bench.running()) == (first, first)
    git(bench.checkout, "commit", "--quiet", "--allow-empty", "--message=Next")
    bench.mark("sick", bench.tag())
    failed = bench.workflow("deploy")
    assert failed[-1][0] == "change to it, or back"
    assert f"went back to {first}" in failed[-1][1]
    assert (bench.current(), bench.running()) == (first, first)
    assert "hunter2" not in "".join([*bench.lines("log"), *(said for _, said in [*done, *failed])])


def test_the_notes_name_the_images(bench: Bench) -> None:
    assert bench.workflow("notes")[-1][0] == "done"
    [line] = bench.lines("log", "gh")
    assert line.startswith("gh release create v0.1.0 --verify-tag --generate-notes")
    assert f"`{IMAGES}-*:{bench.tag()}`" in line
