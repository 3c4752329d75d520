"""What is compared on: a network, its data and its training, the same for all."""

import dataclasses
import functools
import inspect
import math

from grid import digest

from scl_keras.architectures import ARCHITECTURES, build_architecture
from scl_keras.datasets import load_dataset

PROTOCOLS = {
    "finetuned": "trained, then fine-tuned",
    "initial": "from initial weights",
}
"""What a run starts from, by the name of the protocol."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Network, data and training, which all methods share.

    Attributes:
        network: A key of `scl_keras.architectures.ARCHITECTURES`.
        dataset: A name that `load_dataset` knows.
        epochs: Epochs of a run. From initial weights, those of a method's own dense
            training are among them; those of `dense_epochs` aren't.
        dense_epochs: Epochs of the dense training that all methods start from; 0 to
            start from initial weights.
        batch_size: Samples a step.
        learning_rate: Adam's first rate; decays by a cosine.
        samples: Training samples, the first ones; None for all.
        validation: Number of the last training samples to hold out and to measure on,
            instead of the test samples, which aren't touched then; 0 for none.
        width: Multiplier on the filters of networks that have one; None: as built.
        depth: Of networks that have one; None: as built.
        patch: Side of a token's patch, of transformers; None: as built.
        augment: Whether images are mirrored and shifted at random.
        jit_compile: Whether the step is compiled with XLA.
    """

    network: str
    dataset: str
    epochs: int
    dense_epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 2e-3
    samples: int | None = None
    validation: int = 0
    width: float | None = None
    depth: int | None = None
    patch: int | None = None
    augment: bool = False
    jit_compile: bool = False

    def __post_init__(self):
        known = inspect.signature(ARCHITECTURES[self.network]).parameters
        for name, value in self._shape().items():
            if name not in known:
                raise ValueError(
                    f"{self.network} has no {name} to set. Received: {name}={value}"
                )

    @property
    def protocol(self):
        """A key of `PROTOCOLS`."""
        return "finetuned" if self.dense_epochs else "initial"

    @property
    def metric(self):
        """What its results call their accuracy."""
        return "validation_accuracy" if self.validation else "accuracy"

    def build(self, data):
        """A new network, its initial weights by Keras's seed."""
        return build_architecture(
            self.network, data.input_shape, data.num_classes, **self._shape()
        )

    def load(self, data_dir=None, download=False):
        """The data set, cut to `samples`; its test part is what is measured on."""
        data = load_dataset(self.dataset, data_dir=data_dir, download=download)
        if self.validation >= len(data.x_train):
            raise ValueError(
                f"Of the {len(data.x_train)} training samples of {self.dataset} some "
                f"must be left to train on. Received: validation={self.validation}"
            )
        end = len(data.x_train) - self.validation
        if self.validation:
            held_out = data.x_train[end:], data.y_train[end:]
            data = dataclasses.replace(data, x_test=held_out[0], y_test=held_out[1])
        n = end if self.samples is None else min(end, self.samples)
        return dataclasses.replace(
            data, x_train=data.x_train[:n], y_train=data.y_train[:n]
        )

    def steps(self, data):
        """Steps an epoch."""
        return math.ceil(len(data.x_train) / self.batch_size)

    def validating(self):
        """The same on a validation split: to choose settings by."""
        return dataclasses.replace(self, validation=_HELD_OUT.get(self.dataset, 10_000))

    def small(self):
        """A task of seconds in this one's place."""
        return dataclasses.replace(
            self,
            dataset="digits",
            epochs=3,
            dense_epochs=min(self.dense_epochs, 1),
            validation=_HELD_OUT["digits"] if self.validation else 0,
            jit_compile=False,
        )

    def _shape(self):
        sizes = {name: getattr(self, name) for name in ("width", "depth", "patch")}
        return {name: size for name, size in sizes.items() if size is not None}


_HELD_OUT = {"digits": 237}

SEEDS = (0, 1, 2)

TITLES = {
    "lenet_300_100": "LeNet-300-100",
    "lenet_5": "LeNet-5",
    "small_vgg": "small VGG",
    "resnet": "ResNet-{depth}",
    "vision_transformer": "small vision transformer",
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10_jpeg": "CIFAR-10 (JPEG)",
}


def title_of(task):
    """What a task's network is called."""
    return TITLES[task.network].format(depth=task.depth or 20)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task: The `Task`.
        method: A key of `comparison.methods.METHODS`.
        compression: What the method is asked for; 1 for the dense network.
        seed: Seed of the initial weights, shuffling and random masks.
        parameters: The method's own settings, as pairs of name and value.
        edition: Of the method: what it does by these settings may change.
    """

    task: Task
    method: str
    compression: float
    seed: int
    parameters: tuple
    edition: int = 1

    def setting(self):
        """All that its result depends on, as JSON-able data."""
        return {
            "task": dataclasses.asdict(self.task),
            "method": self.method,
            "compression": self.compression,
            "seed": self.seed,
            "parameters": dict(self.parameters),
            "edition": self.edition,
        }

    @functools.cached_property
    def name(self):
        """Of its file: readable, and another one for every other setting."""
        folder = f"{self.task.network}_{self.task.protocol}"
        if self.task.validation:
            folder += "_validation"
        plain = f"{self.method}_{self.compression:g}x_seed{self.seed}"
        return f"{folder}/{plain}_{digest(self.setting())}"


def run_of(setting):
    """The `Run` of a setting, as results keep it, or None if it isn't one of today."""
    names = {field.name for field in dataclasses.fields(Run)}
    fields = {field.name for field in dataclasses.fields(Task)}
    if set(setting) != names or set(setting["task"]) != fields:
        return None
    own = {"task": Task(**setting["task"])}
    own["parameters"] = tuple(setting["parameters"].items())
    return Run(**{**setting, **own})
