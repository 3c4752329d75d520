"""What is compared on: a network, its data and its training, the same for all."""

import dataclasses
import functools
import inspect
import math

from grid import digest

from scl_keras.architectures import ARCHITECTURES, build_architecture
from scl_keras.datasets import load_dataset


@dataclasses.dataclass(frozen=True)
class Task:
    """Network, data and training, which all methods share.

    Attributes:
        network: A key of `scl_keras.architectures.ARCHITECTURES`.
        dataset: A name that `load_dataset` knows.
        epochs: Epochs of a run, those of a dense pre-training included.
        batch_size: Samples a step.
        learning_rate: Adam's first rate; decays by a cosine.
        samples: Training samples, the first ones; None for all.
        width: Multiplier on the filters of networks that have one; None: as built.
        jit_compile: Whether the step is compiled with XLA.
    """

    network: str
    dataset: str
    epochs: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    samples: int | None = None
    width: float | None = None
    jit_compile: bool = False

    def __post_init__(self):
        known = inspect.signature(ARCHITECTURES[self.network]).parameters
        if self.width is not None and "width" not in known:
            raise ValueError(
                f"{self.network} has no width to multiply. Received: width={self.width}"
            )

    def build(self, data):
        """A new network, its initial weights by Keras's seed."""
        arguments = {} if self.width is None else {"width": self.width}
        return build_architecture(
            self.network, data.input_shape, data.num_classes, **arguments
        )

    def load(self, data_dir=None, download=False):
        """The data set, cut to `samples`."""
        data = load_dataset(self.dataset, data_dir=data_dir, download=download)
        n = self.samples
        return dataclasses.replace(
            data, x_train=data.x_train[:n], y_train=data.y_train[:n]
        )

    def steps(self, data):
        """Steps an epoch."""
        return math.ceil(len(data.x_train) / self.batch_size)


# XLA makes dense layers faster on CPUs, and convolutions slower.
TASKS = {
    "lenet_300_100": Task("lenet_300_100", "mnist", epochs=10, jit_compile=True),
    "lenet_5": Task("lenet_5", "mnist", epochs=10),
    "small_vgg": Task("small_vgg", "fashion_mnist", epochs=10),
    "resnet": Task("resnet", "cifar10_jpeg", epochs=5),
}
"""The tasks by the name of their network."""

FULLY_CONNECTED = ("lenet_300_100",)
"""Networks without convolutions: a connection is one multiply-accumulate there."""

COMPRESSIONS = (10, 30, 100, 300, 1000)
SEEDS = (0, 1, 2)

TITLES = {
    "lenet_300_100": "LeNet-300-100",
    "lenet_5": "LeNet-5",
    "small_vgg": "small VGG",
    "resnet": "ResNet-20",
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10_jpeg": "CIFAR-10 (JPEG)",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task: The `Task`.
        method: A key of `comparison.methods.METHODS`.
        compression: What the method is asked for; 1 for the dense network.
        seed: Seed of the initial weights, shuffling and random masks.
        parameters: The method's own settings, as pairs of name and value.
    """

    task: Task
    method: str
    compression: float
    seed: int
    parameters: tuple

    def setting(self):
        """All that its result depends on, as JSON-able data."""
        return {
            "task": dataclasses.asdict(self.task),
            "method": self.method,
            "compression": self.compression,
            "seed": self.seed,
            "parameters": dict(self.parameters),
        }

    @functools.cached_property
    def name(self):
        """Of its file: readable, and another one for every other setting."""
        plain = f"{self.method}_{self.compression:g}x_seed{self.seed}"
        return f"{self.task.network}/{plain}_{digest(self.setting())}"
