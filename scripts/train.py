"""Train a model: ingests and builds features on its way, ends with a report and a bundle.

Examples:
  python scripts/train.py                                          demo catalogue, small model, CPU
  python scripts/train.py data=rakuten data.root=PATH experiment=small_cpu
  python scripts/train.py data=rakuten model=fusion trainer=gpu    CamemBERT and ConvNeXt, pretrained
  python scripts/train.py -m sweep=fusion                          a study; again: goes on with it
"""

from rakuten.cli import run
from rakuten.config import TrainConfig


def main(config: TrainConfig) -> None:
    from rakuten.console import people
    from rakuten.model.pretrained import require_weights

    require_weights(config.model)  # before seconds of imports: the answer to missing weights comes at once
    from rakuten.experiment.train import train

    print(train(config, people()))


if __name__ == "__main__":
    run(main, TrainConfig, "train", together="rakuten.experiment.sweep.multirun:run_group")
