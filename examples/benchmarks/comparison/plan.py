"""The tasks, and what of them the study is made of: `compare_methods.py --study`.

Epochs were set so that the study takes about six hours of two cores, one process each.
"""

import dataclasses

from comparison.methods import DENSE, usual_for
from comparison.study import plan
from comparison.tasks import SEEDS, Task

TASKS = {
    "initial": {
        "lenet_300_100": Task("lenet_300_100", "mnist", 6),
        "lenet_5": Task("lenet_5", "mnist", 6, samples=20_000),
        "small_vgg": Task("small_vgg", "fashion_mnist", 6, samples=20_000),
        "vision_transformer": Task(
            "vision_transformer", "fashion_mnist", 9, samples=20_000, patch=7
        ),
        "resnet": Task(
            "resnet", "cifar10_jpeg", 6, samples=40_000, depth=8, augment=True
        ),
    },
}
"""By protocol and network."""

# Epochs of the dense training, and of everybody's fine-tuning.
_FINETUNED = {
    "lenet_300_100": (9, 3),
    "lenet_5": (6, 3),
    "small_vgg": (6, 3),
    "vision_transformer": (15, 4),
    "resnet": (14, 3),
}
TASKS["finetuned"] = {
    network: dataclasses.replace(
        TASKS["initial"][network], dense_epochs=dense, epochs=epochs
    )
    for network, (dense, epochs) in _FINETUNED.items()
}


COMPRESSIONS = (5, 10, 30, 100, 300, 1000)


@dataclasses.dataclass(frozen=True)
class Part:
    """One task of the study, and what is compared on it.

    Attributes:
        protocol: See `comparison.tasks.PROTOCOLS`.
        network: The network.
        compressions: Numbers.
        seeds: Integers.
        without: Methods that are left out.
    """

    protocol: str
    network: str
    compressions: tuple[int, ...]
    seeds: tuple[int, ...] = SEEDS
    without: tuple[str, ...] = ()

    @property
    def task(self):
        """Its `Task`."""
        return TASKS[self.protocol][self.network]

    @property
    def methods(self):
        """Names of its methods."""
        return [name for name in usual_for(self.task) if name not in self.without]


_TO_100, _TO_1000 = COMPRESSIONS[:4], COMPRESSIONS

STUDY = (
    Part("finetuned", "resnet", _TO_100),
    Part("finetuned", "vision_transformer", _TO_100),
    Part("finetuned", "small_vgg", _TO_100),
    Part("finetuned", "lenet_5", _TO_1000),
    Part("finetuned", "lenet_300_100", _TO_1000),
    Part("initial", "vision_transformer", _TO_100),
    Part("initial", "small_vgg", _TO_100),
    Part("initial", "lenet_5", _TO_1000),
    Part("initial", "lenet_300_100", _TO_1000),
    Part("initial", "resnet", _TO_100, seeds=(0,)),
)
"""What the study is made of; of a stage, see below, in this order."""

STAGES = (
    ("finetuned", 0),
    ("initial", 0),
    *((protocol, seed) for seed in SEEDS[1:] for protocol in TASKS),
)
"""Protocols and seeds, those first that tell most."""


def study_runs(validate=False):
    """All runs of the study, in the order to make them.

    The dense networks of a stage come first: whoever starts from them waits for them.

    Args:
        validate: Whether to measure all on a validation split.
    """
    runs = []
    for protocol, seed in STAGES:
        parts = [p for p in STUDY if p.protocol == protocol and seed in p.seeds]
        for only in (DENSE, None):
            for part in parts:
                task = part.task.validating() if validate else part.task
                methods = [m for m in part.methods if only is None or m in only]
                runs += plan([task], methods, part.compressions, [seed])
    return list(dict.fromkeys(runs))
