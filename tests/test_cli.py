"""The command line, through `run` and `compose`: on a small conf/ of its own, and on the real one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hydra.core.global_hydra import GlobalHydra
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from rakuten.cli import compose, run
from rakuten.config import EvaluateConfig, PredictConfig, TrainConfig
from rakuten.config_io import to_flat_dict, to_yaml
from rakuten.errors import ConfigError, DataError

ROOT = Path(__file__).parents[1]
frozen = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


@frozen
class Bag:
    kind: Literal["bag"]
    size: Annotated[int, Field(ge=1)]


@frozen
class Net:
    kind: Literal["net"]
    size: Annotated[int, Field(ge=1)]
    layers: int


@frozen
class Shop:
    root: Path
    cache: Path | None
    title: str
    files: list[str]
    codes: dict[int | str, str]
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "Shop":
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self


@frozen
class Model:
    text: Annotated[Bag | Net, Field(discriminator="kind")] | None


@frozen
class Config:
    shop: Shop
    model: Model
    seed: Annotated[int, Field(ge=0)]
    rate: float
    resume: bool
    tags: dict[str, str]
    debug: bool


FILES = {
    "app.yaml": """
        # the app
        defaults: [{shop: demo}, {model: small}, _self_, {override hydra/job_logging: none},
                   {override hydra/hydra_logging: none}]
        seed: 0  # of everything
        rate: 0.5
        resume: false
        tags: {}
        debug: false
        hydra:
          output_subdir: null
          run: {dir: .}
          sweep: {dir: sweeps, subdir: .}
          job: {chdir: false}
        """,
    "shop/demo.yaml": """
        root: data/demo
        cache: null
        title: demo
        files: [a.csv]
        codes: {10: Livres, 40: Jeux}
        low: 0.0
        high: 1.0
        """,
    "model/small.yaml": "defaults: [{text: bag}, _self_]",
    "model/none.yaml": "text: null",
    "model/text/bag.yaml": "{kind: bag, size: 8}",
    "model/text/net.yaml": "{kind: net, size: 8, layers: 2}",
    "extra/late.yaml": "# @package _global_\nrate: 0.9",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        write(tmp_path / "conf" / name, text)
    return tmp_path / "conf"


@pytest.fixture
def build(conf: Path) -> Callable[..., Config]:
    return lambda *overrides: compose("app", overrides, Config, config_dir=conf)


@pytest.fixture
def start(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run the app with these arguments in an empty folder; gives (exit code, configs seen, stdout, stderr)."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def start(*arguments: str, raises: BaseException | None = None) -> tuple[int, list[Config], str, str]:
        seen: list[Config] = []

        def main(config: Config) -> None:
            seen.append(config)
            if raises is not None:
                raise raises

        monkeypatch.setattr(sys, "argv", ["scripts/app.py", *arguments])
        code = 0
        try:
            run(main, Config, "app", config_dir=conf)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, seen, captured.out, captured.err

    return start


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    indent = len(text.lstrip("\n")) - len(text.lstrip("\n ").lstrip())
    path.write_text("\n".join(line[indent:] for line in text.lstrip("\n").splitlines()), encoding="utf-8")


def mistakes(build: Callable[..., Config], *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build(*overrides)
    return str(caught.value)


# --- values as typed ----------------------------------------------------------------------------------------


TYPED = [
    "/tmp/Mes données (été)/jeu d'essai",
    "a,b",
    "a, b",
    "#1=2;x&y",
    "with \"double\" and 'single' quotes",
    "trailing ",
    "back\\slash's",
    "2024",
    "007",
    "1e5",
    "true",
    "été {1}",
    "[draft",
    "100 %",
    "a: b",
    "x=y=z",
    "l'été\\",
    "choice",
]


@pytest.mark.parametrize("typed", list(zip(TYPED[::3], TYPED[1::3], TYPED[2::3], strict=True)))
def test_texts_and_paths_arrive_letter_by_letter(
    build: Callable[..., Config], typed: tuple[str, str, str]
) -> None:
    root, cache, title = typed
    tags = {f"tag{number}": text for number, text in enumerate(typed)}
    config = build(
        f"shop.root={root}",
        f"shop.cache={cache}",
        f"shop.title={title}",
        *(f"tags.{k}={v}" for k, v in tags.items()),
    )
    assert (str(config.shop.root), str(config.shop.cache), config.shop.title) == typed
    assert config.tags == tags


def test_a_folder_that_exists_is_meant_whatever_its_name(
    build: Callable[..., Config], start: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("[a]", "choice(a,b)", "a,b"):
        folder = tmp_path / name
        folder.mkdir()
        assert build(f"shop.root={folder}").shop.root == folder
    code, seen, _, _ = start("-m", f"shop.root={folder}", "seed=1,2")  # the comma is a sweep's otherwise
    assert (code, [config.shop.root for config in seen]) == (0, [folder, folder])


def test_hydras_own_constructs_keep_their_meaning(build: Callable[..., Config]) -> None:
    config = build(
        "shop.title=${shop.root}/x", "shop.files=[b.csv,'c,d.csv']", "shop.cache=null", "rate=1e-3"
    )
    assert (config.shop.title, config.shop.files, config.shop.cache) == (
        "data/demo/x",
        ["b.csv", "c,d.csv"],
        None,
    )
    assert config.rate == 1e-3
    assert build("shop.title='quoted'").shop.title == "quoted"
    assert build("shop.title=").shop.title == ""


def test_lists_and_dicts_take_accents(build: Callable[..., Config]) -> None:
    config = build(
        "shop.files=[données d'été.csv, b (1).csv]", "tags={note: à voir}", "shop.codes.40=Jeux vidéo"
    )
    assert config.tags == {"note": "à voir"}
    assert config.shop.codes == {10: "Livres", 40: "Jeux vidéo"}
    assert build("shop.files=[données.csv,b (1).csv]").shop.files == ["données.csv", "b (1).csv"]


def test_home_is_expanded_in_paths_only(build: Callable[..., Config]) -> None:
    config = build("shop.root=~/données", "shop.title=~/x")
    assert (config.shop.root, config.shop.title) == (Path.home() / "données", "~/x")
    assert "no_such_user_" in mistakes(build, "shop.root=~no_such_user_/x")


def test_groups_switch_and_plus_is_forgiven(build: Callable[..., Config]) -> None:
    assert build("model/text=net", "model.text.layers=5").model.text == Net(kind="net", size=8, layers=5)
    assert build("+model/text=net", "+seed=3", "++resume=true").seed == 3
    assert build("+extra=late").rate == 0.9
    assert build("model=none").model.text is None


# --- mistakes -----------------------------------------------------------------------------------------------


def test_all_mistakes_come_at_once(build: Callable[..., Config]) -> None:
    said = mistakes(
        build, "sed=3", "rate=abc", "seed=-1", "model/text=nett", "shop.root=", "oops", "resume=[1",
        "+model._target_=os.system", "shop.files=3", "tags={a", "~shop.title", "model.text.layers=1", "shop.x.y=1",
    )  # fmt: skip
    for part in (
        "12 mistakes",
        "no key `sed`\n   fix: did you mean seed?",
        "`rate` is wrong\n   expected: a valid number\n   got: 'abc'",
        "`seed` is wrong\n   expected: greater than or equal to 0\n   got: -1",
        "no option `nett`\n   expected: one of bag, net\n   fix: did you mean net?",
        "`shop.root` is empty",
        "`oops` is no override",
        "`resume` has a value that cannot be read",
        "`model._target_` is forbidden",
        "`shop.files` is wrong",
        "`tags` has a value that cannot be read",
        "`shop.title` has no value",
        "no key `shop.x.y`",
    ):
        assert part in said


def test_a_key_of_another_variant_says_so(build: Callable[..., Config]) -> None:
    assert "`model.text` is of kind bag" in mistakes(build, "model.text.layers=3")
    assert "`model.text` is null" in mistakes(build, "model=none", "model.text.size=3")


def test_an_unknown_option_does_not_bring_follow_up_errors(build: Callable[..., Config]) -> None:
    assert "mistakes" not in mistakes(build, "model/text=nett", "model.text.layers=3")


def test_a_broken_rule_is_told_beside_a_wrong_value_below_it() -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", ["model.text.dropout=7", "model.fusion=null"])
    assert "2 mistakes" in str(caught.value)
    assert "`model.text.dropout` is wrong" in str(caught.value)


def test_a_rule_is_not_broken_by_what_was_set_aside(build: Callable[..., Config]) -> None:
    assert "low must not" not in mistakes(build, "shop.high=abc", "shop.low=2")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.text=bag", "choose one of its options: model/text=bag|net"),
        ("seed=true", "expected: a number"),
        ("seed=1.5", "`seed` is wrong"),
        ("seed=1,2", "add -m"),
        ("seed=range(1,3)", "add -m"),
        ("seed=null", "got: null"),
        ("model/txt=bag", "did you mean model/text"),
        ("modle=small", "did you mean model?"),
        ("sèed=1", "did you mean seed?"),
        ("layers=1", "did you mean model.text.layers?"),
        ("shop.titel=x", "did you mean shop.title?"),
        ("rate=${nope}", "`rate` cannot be resolved"),
        ("model.text.kind=tree", "expected: 'bag', 'net'"),
        ("tags={_target_: os.system}", "`tags._target_` is forbidden"),
        ("hydra.nope=1", "hydra.nope"),
    ],
)
def test_a_mistake_names_its_cure(build: Callable[..., Config], override: str, said: str) -> None:
    text = mistakes(build, override)
    assert said in text
    assert "mistakes" not in text  # one mistake, told once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults: [demo, _self_]\ntitel: x", "mine.yaml:2: there is no key `shop.titel`"),
        ("defaults: [demo, _self_]\nlow: high", "mine.yaml:2: `shop.low` is wrong"),
        ("defaults: [demo, _self_]\nlow: 3", "low must not exceed high"),
        ("low: [1\nhigh: 2", "mine.yaml:2 is not valid YAML"),
        ("- a", "mine.yaml: `shop` is wrong"),
        ("defaults: [nope]", "shop/nope"),
        (
            '{root: "???", cache: x, title: x, files: [], codes: {}, low: 0, high: 1}',
            "mine.yaml:1: `shop.root` has no",
        ),
        ("{root: x, cache: x, title: x, codes: {}, low: 0, high: 1}", "mine.yaml: `shop.files` has no value"),
        ("defaults: [demo, _self_]\n_target_: os.system", "`shop._target_` is forbidden"),
    ],
)
def test_mistakes_in_a_file_name_the_file(
    build: Callable[..., Config], conf: Path, text: str, said: str
) -> None:
    write(conf / "shop/mine.yaml", text)
    found = mistakes(build, "shop=mine", "seed=-1")
    assert said in found
    assert "2 mistakes" in found  # that of the command line too


def test_a_key_that_a_users_file_lacks_can_be_typed(build: Callable[..., Config], conf: Path) -> None:
    write(conf / "shop/mine.yaml", "{root: x, cache: x, title: x, codes: {}, low: 0, high: 1}")
    assert build("shop=mine", "shop.files=[a]").shop.files == ["a"]


# --- the process --------------------------------------------------------------------------------------------


def test_run_hands_over_a_frozen_config_and_leaves_no_file(start: Callable[..., Any]) -> None:
    code, seen, _, err = start("shop.root=été", "seed=7")
    assert (code, seen[0].seed, seen[0].shop.root, err) == (0, 7, Path("été"), "")
    assert list(Path.cwd().iterdir()) == []


def test_config_errors_exit_with_2_before_the_script_runs(start: Callable[..., Any]) -> None:
    code, seen, out, err = start("sed=1", "--lr=3", "rate=x")
    assert (code, seen, out) == (2, [], "")
    assert "3 mistakes" in err
    assert "Traceback" not in err
    assert "Traceback" in start("sed=1", "debug=true")[3]


def test_a_users_mistake_is_its_message_and_a_bug_its_traceback(start: Callable[..., Any]) -> None:
    error = DataError("no catalogue", expected="a folder", got="x")
    code, _, out, err = start(raises=error)
    assert (code, out, err) == (DataError.exit_code, "", f"{error}\n")
    assert "Traceback" in start("debug=true", raises=error)[3]
    with pytest.raises(ZeroDivisionError):
        start(raises=ZeroDivisionError())


def test_an_interrupt_is_one_line(start: Callable[..., Any]) -> None:
    code, _, _, err = start(raises=KeyboardInterrupt())
    assert (code, err.count("\n")) == (130, 1)


def test_a_sweep_runs_each_choice(start: Callable[..., Any]) -> None:
    code, seen, _, _ = start("-m", "model/text=bag,net", "shop.title=été,b")
    assert code == 0
    assert [(config.model.text.kind, config.shop.title) for config in seen] == [
        (kind, title) for kind in ("bag", "net") for title in ("été", "b")
    ]


def test_every_choice_of_a_sweep_is_checked_first(start: Callable[..., Any]) -> None:
    code, seen, _, err = start(
        "seed=1,-2", "model/text=bag,nett", "sed=interval(0,1)", "rate=choice(1,x)", "-m"
    )
    assert (code, seen) == (2, [])
    for part in ("4 mistakes", "got: -2", "no option `nett`", "no key `sed`", "got: 'x'"):
        assert part in err


@pytest.mark.parametrize("switch", ["--help", "-h"])
def test_help_shows_groups_keys_and_comments(start: Callable[..., Any], switch: str) -> None:
    code, seen, out, _ = start(switch, "seed=5")
    assert (code, seen) == (0, [])
    for part in ("model/text=bag", "net", "seed=5", "of everything", "--cfg job"):
        assert part in out


def test_cfg_and_package_print_the_config(start: Callable[..., Any]) -> None:
    code, seen, out, _ = start("--cfg", "job", "--package", "shop", "shop.title=été")
    assert (code, seen) == (0, [])
    assert "title: été" in out
    assert "seed" not in out
    assert "root: data/demo" in start("--cfg", "job", "--resolve")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cfg", "everything"], "invalid choice"),
        (["--resolve"], "--resolve goes with --cfg"),
        (["-m", "--cfg", "job"], "only one of"),
        (["--config-dir", "nowhere"], "config folder is missing"),
        (["--config-name", "nope"], "nope"),
    ],
)
def test_wrong_switches_are_config_errors(start: Callable[..., Any], arguments: list[str], said: str) -> None:
    code, _, _, err = start(*arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_config_dir_of_ones_own_adds_options(start: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "own/shop/mine.yaml", "defaults: [demo, _self_]\ntitle: à moi")
    code, seen, _, _ = start("--config-dir", str(tmp_path / "own"), "shop=mine")
    assert (code, seen[0].shop.title) == (0, "à moi")


def test_compose_works_again_and_again_and_inside_a_job(
    conf: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[..., Config]
) -> None:
    inner: list[int] = []
    monkeypatch.setattr(sys, "argv", ["app.py", "seed=1"])
    run(lambda config: inner.append(build("seed=2").seed + config.seed), Config, "app", config_dir=conf)
    assert inner == [3]
    assert build().seed == build().seed == 0
    assert not GlobalHydra.instance().is_initialized()


# --- the real one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schema"), [("train", TrainConfig), ("evaluate", EvaluateConfig), ("predict", PredictConfig)]
)
def test_the_real_configs_compose_and_round_trip(name: str, schema: type[Any]) -> None:
    config = compose(name, schema=schema)
    flat = to_flat_dict(config)
    assert flat["data.name"] == "demo"
    assert flat["data.codes.10"] == "Livres d'occasion"
    assert all(value is None or isinstance(value, str | int | float | bool) for value in flat.values())
    from omegaconf import OmegaConf  # what --config-dir would read it with
    from pydantic import TypeAdapter

    read_back = OmegaConf.to_container(OmegaConf.create(to_yaml(config)))
    assert TypeAdapter(schema).validate_python(read_back) == config


HEAVY = {"torch", "transformers", "pytorch_lightning", "mlflow", "pandas", "sklearn", "timm", "matplotlib"}
SCRIPT = """
'''Do it.'''
import sys, atexit
from rakuten.cli import run
from rakuten.config import TrainConfig
atexit.register(lambda: print("MODULES", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
run(lambda config: print(config.data.root), TrainConfig, "train")
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "Do it."),
        (["--cfg", "job"], 0, "seed: 0"),
        (["sed=1"], 2, ""),
        (["data.root=é"], 0, "é"),
    ],
)
def test_nothing_heavy_is_imported_from_any_folder(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "app.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "app.py", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == code, done.stderr
    assert said in done.stdout
    loaded = set(done.stderr.rpartition("MODULES")[2].split())
    assert "hydra" in loaded
    assert not loaded & HEAVY


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SCRIPT.replace("atexit.register", "str"), encoding="utf-8")
    command = f"{sys.executable} app.py --cfg job | true"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["sed=1"], 2)])
def test_the_collector_is_kept_from_what_modules_made(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    script = SCRIPT.replace("lambda config: print(config.data.root)", "print_threshold")
    told = "print(gc.get_freeze_count() > 10_000, file=sys.stderr)"
    (tmp_path / "app.py").write_text(
        "import atexit, gc, sys\n"
        f"atexit.register(lambda: {told})\n"
        "def print_threshold(_):\n    print(gc.get_threshold()[0])\n" + script,
        encoding="utf-8",
    )
    command = [sys.executable, "app.py", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1] == "True"
    assert done.stdout == ("10000\n" if code == 0 else "")
