"""What `make bench-gpu` does, small, without packages that a machine with a GPU may lack.

Run under JAX as `python -m tests.support.gpu_child <folder for results> <archive>`.
"""

import sys
from pathlib import Path

MISSING = ("tensorflow", "dvc", "mlflow", "prefect", "great_expectations", "pytest", "hypothesis", "upath", "fsspec")
SMALL = {"channels": [8, 8], "blocks_per_stage": 1, "kernel_size": 3, "dropout": 0.1}
CLIPS, BATCHES, TURNS = 32, 2, 2


def main(folder: Path, archive: Path) -> None:
    sys.modules |= dict.fromkeys(MISSING)  # an import of None fails
    from tests.benchmarks import figures, gpu

    shipped = gpu.shipped("tc_resnet")["tc_resnet"]
    settings = shipped.model_copy(update={"network": SMALL, "batch_size": 8, "epochs": 2})
    gpu.main({"tc_resnet": settings}, CLIPS, BATCHES, TURNS, None, folder)
    figures.write("time", [gpu.time_to_accuracy("tc_resnet", settings, archive, 0.0)], folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
