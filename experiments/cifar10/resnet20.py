"""Train ResNet-20 by the recipe that the chapter on training uses on a GPU, and write it down.

    python -m experiments.cifar10.resnet20 --data DIR [--threads N]

An interrupted training continues from its last epoch (its checkpoint is in work/, which git
ignores). The result is results/resnet20.json.
"""

import argparse
import json
import platform
import shutil
import time

import torch

from attn_lib import data, models, train
from attn_lib.train.record import replacing
from experiments.cifar10 import grid

RESULT = grid.RESULTS / "resnet20.json"
SEED = 0
# The chapter's recipe for photographs; its precision "auto" is bfloat16 on newer GPUs.
RECIPE = {
    "epochs": 60,
    "lr": 0.2,
    "batch_size": 128,
    "ema_decay": 0.995,
    "channels_last": True,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "clip_norm": 5.0,
}
PRECISION = "bfloat16"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds cifar-10-batches-bin/")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    split, provenance = grid.load(options.data)
    split = split.standardised().to(train.device(), memory_format=torch.channels_last)
    train.seed_everything(SEED)
    model = models.resnet_cifar(20).to(train.device())
    history = train.fit(
        model,
        split,
        seed=SEED,
        augment=data.augment,
        precision=PRECISION,
        test_every=1,
        out=grid.WORK / "resnet20",
        **RECIPE,
    )
    result = {
        "model": {"name": "resnet_cifar", "depth": 20},
        "seed": SEED,
        "recipe": {**RECIPE, "precision": PRECISION, "augment": grid.AUGMENT},
        "data": provenance,
        "machine": grid.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_accuracy": history[-1]["test_accuracy"],
        # Of the model that is tested, the moving average, on the training images as they are.
        "train_accuracy": train.evaluate(model, split.x_train, split.y_train),
        "finished": time.strftime("%Y-%m-%d"),
        "history": history,
    }
    with replacing(RESULT, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    shutil.rmtree(grid.WORK / "resnet20")
    print(f"test accuracy {result['test_accuracy']:.4f}")


if __name__ == "__main__":
    main()
