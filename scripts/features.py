"""Build features: cleaned texts, the split, and photos and tokens ready for the model, all reused until they change.

Examples:
  python scripts/features.py
  python scripts/features.py model.image.image_px=64
"""

from rakuten.cli import run
from rakuten.config import TrainConfig


def main(config: TrainConfig) -> None:
    from rakuten.console import people
    from rakuten.data.features import load_features, side_counts

    features = load_features(config.data, config.model, people(), stage=True)
    for side, count in side_counts(features).items():
        people().print(f"{count:>8,}  {side}")
    print(config.data.processed_dir / "train_features.csv")


if __name__ == "__main__":
    run(main, TrainConfig, "train")
