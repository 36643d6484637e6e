"""Workflows: valid, modest in their rights, and made of commands that work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.workflows import FOLDER, Step, git, jobs, names, run, step, steps, workflow

# What no test can run: it needs an engine, a network or a secret, or is longer than a test may be.
# tests/test_release.py runs those of an engine all the same, with a stand-in for `docker` and `ssh`.
NOT_RUN = {
    "test/audit/audit of dependencies": "network: asks the package index for known holes",
    "test/test/all tests": "is what runs this test",
    "nightly/drift/install": "network: installs requirements.lock; `make test` has done it before this test runs",
    "nightly/drift/drift of what is served": "secret; tests/monitor/test_drift_job.py runs the script",
    "nightly/acceptance/acceptance": "hours",
    "release/images/log in to the registry": "engine, network, secret",
    "release/images/no image has this tag yet": "engine, network",
    "release/images/build": "engine, network",
    "release/images/smoke test": "engine",
    "release/images/a run through the stack": "engine; tests/test_deploy.py runs the same check on the stack without one",
    "release/images/push": "engine, network, secret",
    "release/notes/release notes": "network, secret",
    "release/deploy/hand over the release": "network, secret",
    "release/deploy/change to it, or back": "engine, network, secret",
}
RUN = {
    "test/lint/trust the checkout",
    "test/lint/lint and types",
    "test/test/trust the checkout",
    "nightly/drift/trust the checkout",
    "nightly/drift/pipeline on the demo catalogue",  # by tests/pipeline/test_team.py
    "nightly/acceptance/trust the checkout",
    "release/version/the tag is the version",
    "release/version/the commit is on main",
    "release/deploy/way to the serving machine",
    "release/deploy/forget the key",
}
KEY = "-----BEGIN KEY-----\nhunter2\n-----END KEY-----"
KNOWN = {
    "vars.DEPLOY_HOST": "shop.example.invalid",
    "vars.DEPLOY_USER": "deployer",
    "vars.DEPLOY_KNOWN_HOSTS": "shop.example.invalid ssh-ed25519 AAAA",
    "secrets.DEPLOY_KEY": KEY,
}


def check(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """check-jsonschema with a schema that it brings along."""
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [program, "--builtin-schema", schema, *files]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_workflows_keep_the_schema(schema: str, tmp_path: Path) -> None:
    done = check(schema, *FOLDER.iterdir())
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text((FOLDER / "test.yaml").read_text().replace("timeout-minutes", "timeout-hours"))
    assert check(schema, broken).returncode != 0


def test_dependabot_keeps_the_schema() -> None:
    done = check("vendor.dependabot", ROOT / ".github/dependabot.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_step_is_run_or_listed() -> None:
    keys = [each.key for each in steps()]
    assert len(keys) == len(set(keys)), "two steps of one name"
    assert not RUN & set(NOT_RUN)
    assert set(keys) == RUN | set(NOT_RUN), "say in this test whether the step is run, or why not"


@pytest.mark.parametrize(
    ("name", "job"), list(jobs()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_jobs_have_few_rights_and_an_end(name: str, job: dict[str, object]) -> None:
    assert "permissions" in job
    rights = job["permissions"]
    assert isinstance(rights, dict)
    assert {right for right, kind in rights.items() if kind == "write"} <= {"packages", "contents"}
    assert ("packages" in rights) == (name == "release/images")
    assert (rights.get("contents") == "write") == (name == "release/notes")
    if "uses" not in job:
        assert isinstance(job["timeout-minutes"], int)
        assert re.fullmatch(r"ubuntu-\d\d\.\d\d", str(job["runs-on"]))


@pytest.mark.parametrize("name", names())
def test_nothing_is_left_to_chance(name: str) -> None:
    content = workflow(name)
    assert "permissions" in content
    assert "concurrency" in content
    assert content["defaults"] == {"run": {"shell": "bash"}}, "else a pipe's first program may fail unseen"
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    for action in used:
        assert action.startswith("./") or re.search(r"@(v\d+|[0-9a-f]{40})$", action), action
    for job in content["jobs"].values():
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= set(content["jobs"])


@pytest.mark.parametrize("each", steps(), ids=lambda each: each.key)
def test_no_command_is_made_of_foreign_text_or_shows_a_secret(each: Step) -> None:
    assert "${{" not in each.run, "an expression becomes code: pass it by env"
    assert not re.search(r"\bset -\w*x|\bxtrace\b|\bprintenv\b|^\s*env\s*$", each.run, re.MULTILINE)
    secret = [name for name, value in each.env.items() if "secrets." in value or "github.token" in value]
    for name in secret:
        for line in each.run.splitlines():
            if re.search(rf"\$\{{?{name}\b", line):
                assert re.search(r"<<<|>~/", line), f"where does {name} go? {line}"


def test_no_tag_moves() -> None:
    files = [
        *FOLDER.iterdir(),
        *(
            path
            for path in (ROOT / "deploy").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ),
    ]
    assert len(files) > 4
    assert not [path.name for path in files if re.search(r"\blatest\b", path.read_text(encoding="utf-8"))]
    for path in (ROOT / "deploy").glob("*.Dockerfile"):
        for base in re.findall(r"^FROM (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(r":.*\d|@sha256:", base), f"{path.name}: {base} is a tag that moves"


def test_what_commands_name_exists() -> None:
    commands = "\n".join(each.run for each in steps())
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(READY):", ".venv/.ready:")
    targets = re.findall(r"\bmake (\S+)", commands)
    assert {"lint", "audit", "acceptance"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    paths = set(re.findall(r"(?<![\w/$}])((?:scripts|deploy|tests|\.ci)/[\w./-]+)", commands))
    assert {".ci/run", "scripts/pipeline.py", "deploy/images.sh"} <= paths
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_nightly_job_looks_for_drift_as_soon_as_it_can() -> None:
    nightly = (FOLDER / "nightly.yaml").read_text(encoding="utf-8")
    runs_it = re.search(r"^ +run: .*scripts/drift\.py", nightly, re.MULTILINE) is not None
    assert runs_it == (ROOT / "scripts/drift.py").is_file()


@pytest.mark.parametrize("key", sorted(key for key in RUN if key.endswith("/trust the checkout")))
def test_a_checkout_of_another_owner_is_trusted(key: str, tmp_path: Path) -> None:
    assert run(step(key), tmp_path, {"HOME": str(tmp_path)}).returncode == 0
    said = subprocess.run(
        ["git", "config", "--global", "safe.directory"],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == "*"


def test_only_the_version_is_released(checkout: Path) -> None:
    each = step("release/version/the tag is the version")
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert run(each, checkout, {"GITHUB_REF_NAME": f"v{version[1]}"}).returncode == 0
    for tag in (version[1], f"v{version[1]}.1", "v", "nightly"):
        done = run(each, checkout, {"GITHUB_REF_NAME": tag})
        assert done.returncode == 1
        assert tag in done.stdout
        assert version[1] in done.stdout


def test_only_main_is_released(checkout: Path) -> None:
    each = step("release/version/the commit is on main")
    git(checkout, "tag", "--annotate", "v9", "--message=It is on main")
    git(checkout, "checkout", "--quiet", "v9")
    assert run(each, checkout, {}).returncode == 0
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=It is not")
    assert run(each, checkout, {}).returncode == 1


def test_the_serving_machine_is_reached_by_a_key_and_known_beforehand(tmp_path: Path) -> None:
    done = run(step("release/deploy/way to the serving machine"), tmp_path, {"HOME": str(tmp_path)}, KNOWN)
    assert (done.returncode, done.stdout) == (0, "")
    config, key = tmp_path / ".ssh/config", tmp_path / ".ssh/production"
    assert key.read_text() == KEY + "\n"
    assert key.stat().st_mode & 0o77 == 0, "ssh refuses a key that others can read"
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(config), "production"], capture_output=True, text=True, check=True
    )
    settings = dict(line.split(" ", 1) for line in shown.stdout.splitlines())
    assert settings["hostname"] == "shop.example.invalid"
    assert settings["user"] == "deployer"
    assert settings["stricthostkeychecking"] == "true"
    assert settings["batchmode"] == "yes"
    assert settings["identityfile"] == "~/.ssh/production"
    assert settings["userknownhostsfile"].endswith(".ssh/production_hosts")

    assert run(step("release/deploy/forget the key"), tmp_path, {"HOME": str(tmp_path)}).returncode == 0
    assert not key.exists()


@pytest.mark.parametrize("missing", ["secrets.DEPLOY_KEY", "vars.DEPLOY_USER", "vars.DEPLOY_KNOWN_HOSTS"])
def test_what_a_deployment_lacks_is_named(missing: str, tmp_path: Path) -> None:
    known = {name: value for name, value in KNOWN.items() if name != missing}
    done = run(step("release/deploy/way to the serving machine"), tmp_path, {"HOME": str(tmp_path)}, known)
    assert done.returncode != 0
    assert f"{missing.partition('.')[2]}: is not set" in done.stdout
    assert "hunter2" not in done.stdout


def with_environment(checkout: Path) -> dict[str, str]:
    """The environment of these tests as the checkout's .venv; the variables with which it uses its own code."""
    (checkout / ".venv").symlink_to(sys.prefix)
    for name in ("requirements.lock", "requirements-uv.lock", "pyproject.toml"):
        os.utime(checkout / name, (0, 0))  # older than the environment, which would be made anew otherwise
    return {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}


@pytest.mark.acceptance  # `make test` lints and types the checkout that it runs in
def test_lint_and_types_pass_in_a_fresh_checkout(checkout: Path) -> None:
    done = run(step("test/lint/lint and types"), checkout, with_environment(checkout))
    assert done.returncode == 0, done.stdout
    assert "Success" in done.stdout
