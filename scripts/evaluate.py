"""Evaluate a bundle: scores with intervals, tables, plots and one self-contained HTML page."""

from rakuten.cli import run
from rakuten.config import EvaluateConfig


def main(config: EvaluateConfig) -> None:
    from rakuten.console import people
    from rakuten.experiment.scoring import evaluate_bundle

    print(evaluate_bundle(config, people()))


if __name__ == "__main__":
    run(main, EvaluateConfig, "evaluate")
