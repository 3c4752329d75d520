"""The tasks, and what of them the study is made of: `compare_methods.py --study`.

The study takes about three and a half hours of two cores, with a process of one thread
on each: two threads in one process gain less. Steps aren't compiled with XLA, which
makes those of convolutions and attention about 1.6 times slower on CPUs, and those of
LeNet-300-100 hardly faster. A step of 128 samples takes, dense and with SCL, in ms of
one core:

    LeNet-300-100              6     8
    LeNet-5                   32    36
    small VGG                 47    47
    small vision transformer  28    35
    ResNet-8                 160   165
"""

import dataclasses

from comparison.methods import DENSE, usual_for
from comparison.study import plan
from comparison.tasks import PROTOCOLS, SEEDS, Task

TASKS = {
    "initial": {
        "lenet_300_100": Task("lenet_300_100", "mnist", 6),
        "lenet_5": Task("lenet_5", "mnist", 6, samples=20_000),
        "small_vgg": Task("small_vgg", "fashion_mnist", 6, samples=20_000),
        "vision_transformer": Task(
            "vision_transformer", "fashion_mnist", 9, samples=20_000, patch=7
        ),
        "resnet": Task(
            "resnet",
            "cifar10_jpeg",
            6,
            learning_rate=3e-3,
            samples=40_000,
            depth=8,
            augment=True,
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
    "resnet": (16, 3),
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
_SMALL = {
    "vision_transformer": _TO_100,
    "small_vgg": _TO_100,
    "lenet_5": _TO_1000,
    "lenet_300_100": _TO_1000,
}

_FEWER = {n: tuple(x for x in c if x in (10, 100, 300)) for n, c in _SMALL.items()}

# Made for initial weights: on trained ones a seed shows how far they are behind.
_OF_INITIAL_WEIGHTS = ("snip", "synflow", "random")
# TFMOT prunes by the same schedule as `gradual`: one seed shows whether it differs.
_LESS = (*_OF_INITIAL_WEIGHTS, "tfmot")
# ResNet-8 trains for three minutes a run.
_DEAR = ("tfmot", "snip", "synflow")

# Behind each part: hours of one core, all seeds. Two cores take half of their sum.
# ResNet-8 isn't trained from initial weights: as long as makes it worth pruning, that
# takes a quarter of an hour a run.
STUDY = (
    *(Part("finetuned", n, c, seeds=(0,)) for n, c in _SMALL.items()),  # 1.6
    Part("finetuned", "resnet", (10, 100), (0,), _DEAR),  # 1.1
    *(Part("finetuned", n, c, SEEDS[1:], _LESS) for n, c in _SMALL.items()),  # 2.2
    *(Part("initial", n, c, seeds=(0,)) for n, c in _FEWER.items()),  # 1.3
)
"""What the study is made of; of a stage, see below, in this order."""

STAGES = (
    ("finetuned", 0),
    ("initial", 0),
    *((protocol, seed) for protocol in PROTOCOLS for seed in SEEDS[1:]),
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
