"""Evaluate a bundle: scores with intervals, tables, plots and one self-contained HTML page.

Examples:
  python scripts/evaluate.py
  python scripts/evaluate.py bundle=outputs/RUN/bundle split=val
  python scripts/evaluate.py data=rakuten data.root=PATH bootstrap=0 output=my_report
"""

from rakuten.cli import run
from rakuten.config import EvaluateConfig


def main(config: EvaluateConfig) -> None:
    from rakuten.console import people
    from rakuten.experiment.scoring import evaluate_bundle

    print(evaluate_bundle(config, people()))


if __name__ == "__main__":
    run(main, EvaluateConfig, "evaluate")
