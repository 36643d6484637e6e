"""Where models are trained and judged."""

import torch

from rakuten.config import TrainerConfig
from rakuten.errors import DeviceError


def prepare_torch(trainer: TrainerConfig) -> None:
    """Threads and precision of matrix products.

    Raises:
        DeviceError: a GPU is asked for and torch sees none.
    """
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise DeviceError(
            "trainer.accelerator=gpu, and torch sees no GPU",
            got=f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}, no device",
            fix="trainer=cpu model=fusion_small trains anywhere; on a GPU machine check `nvidia-smi`",
        )
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    torch.set_float32_matmul_precision("high")


def device_of(trainer: TrainerConfig) -> str:
    """A model is judged where it was trained."""
    return "cuda" if trainer.accelerator == "gpu" else "cpu"


def best_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def num_gpus(trainer: TrainerConfig) -> int:
    """GPUs that runs of this kind can be spread over; 0 where they use none."""
    return torch.cuda.device_count() if trainer.accelerator == "gpu" else 0
