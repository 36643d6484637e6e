"""What the median pruner saves, and what it costs: the same studies with and without it, over five seeds.

    python benchmarks/pruning.py
    python benchmarks/pruning.py n_trials=20 data.demo.num_products=2000

Further arguments go to both. Per seed (of the sampler and of training) two studies of `sweep=fusion` run one after the
other, one with `pruner=median` as shipped, one with `pruner=none`. Compared are seconds of training summed over trials,
epochs trained, which no neighbour on the same cores can stretch, and the best trial's validation score. What a study
has done already is not done again: an interrupted benchmark goes on.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import optuna

ROOT = Path(__file__).parents[1]
STORAGE = "sqlite:///outputs/pruning.db"
SEEDS = range(5)


def study(seed: int, pruner: str, more: list[str]) -> tuple[float, float, float]:
    """(seconds of training, epochs, best score) of one study."""
    name = f"{pruner}-{seed}-{'-'.join(more) or 'shipped'}"
    arguments = [
        "sweep=fusion",
        f"pruner={pruner}",
        f"sampler.seed={seed}",
        f"seed={seed}",
        f"storage={STORAGE}",
        f"study_name='{name}'",
        "tracking=off",
    ]
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *arguments, *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = optuna.load_study(study_name=name, storage=STORAGE)
    results = [trial.user_attrs.get("result", {}) for trial in found.trials]
    spent_s = sum(result.get("train_s", 0.0) for result in results)
    return spent_s, sum(result.get("epochs", 0.0) for result in results), found.best_value


def main() -> None:
    more = sys.argv[1:]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = []
    for seed in SEEDS:
        pruned, whole = study(seed, "median", more), study(seed, "none", more)
        rows.append((pruned, whole))
        print(
            f"seed {seed}   training {pruned[0]:6.0f} s against {whole[0]:6.0f} s   epochs {pruned[1]:4.0f} against"
            f" {whole[1]:4.0f}   best {pruned[2]:.4f} against {whole[2]:.4f}",
            flush=True,
        )
    for place, what in enumerate(("training time", "epochs")):
        saved = [1 - pruned[place] / whole[place] for pruned, whole in rows]
        print(f"{what:<14} {statistics.fmean(saved):.1%} less, from {min(saved):.1%} to {max(saved):.1%}")
    differences = [pruned[2] - whole[2] for pruned, whole in rows]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    print(
        f"best score     {statistics.fmean(p[2] for p, _ in rows):.4f} against"
        f" {statistics.fmean(w[2] for _, w in rows):.4f}, difference {statistics.fmean(differences):+.4f}"
        f" ± {error:.4f} (standard error over seeds)"
    )


if __name__ == "__main__":
    main()
