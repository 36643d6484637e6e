"""Compose what the pipeline runs: of all that conf/ holds, what each stage depends on, into params.yaml.

Examples:
  python scripts/compose.py
  python scripts/compose.py data=rakuten model=fusion trainer=gpu
"""

from rakuten.cli import compose, run
from rakuten.config import EvaluateConfig, PredictConfig, TrainConfig


def main(config: TrainConfig) -> None:
    from rakuten.pipeline.params import PARAMS, stage_params, write_params

    evaluate = compose("evaluate", schema=EvaluateConfig)
    write_params(stage_params(config, evaluate, compose("predict", schema=PredictConfig)))
    print(PARAMS)


if __name__ == "__main__":
    run(main, TrainConfig, "train")
