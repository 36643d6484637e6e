"""Run the pipeline: the stages of dvc.yaml as a Prefect flow, each only where something that it depends on changed.

Examples:
  python scripts/pipeline.py
  python scripts/pipeline.py stages=[train,evaluate] force=true
  python scripts/pipeline.py push=true schedule="0 3 * * *"
"""

from rakuten.cli import run
from rakuten.config import PipelineConfig


def main(config: PipelineConfig) -> None:
    from rakuten.console import people
    from rakuten.pipeline.flow import run_pipeline

    run_pipeline(config, people())
    print(f"models/{config.dag.data}")


if __name__ == "__main__":
    run(main, PipelineConfig, "pipeline")
