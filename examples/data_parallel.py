"""What the trainings on several devices share: flags, each process's data, the end."""

import pathlib

import keras
import numpy as np
from absl import flags

import scl_keras
from scl_keras.architectures import ARCHITECTURES, build_architecture
from scl_keras.datasets import DATASETS, load_dataset

FLAGS = flags.FLAGS
flags.DEFINE_enum("dataset", "digits", DATASETS, "Data set to train on.")
flags.DEFINE_enum(
    "architecture", "lenet_300_100", sorted(ARCHITECTURES), "Network to train."
)
flags.DEFINE_integer("batch_size", 64, "Samples a step, on all devices together.")
flags.DEFINE_integer("epochs", 30, "Epochs.", lower_bound=1)
flags.DEFINE_integer(
    "samples", None, "How many of the samples to train on, if not all."
)
flags.DEFINE_float("sparsity", 0.98, "Share of the connections to cut.")
flags.DEFINE_float("learning_rate", 2e-3, "Adam's rate.")
flags.DEFINE_integer("seed", 0, "Seed of weights and shuffling.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")


class Share(keras.utils.PyDataset):
    """One process's share of each batch, shuffled alike in all processes.

    Args:
        x: Array of samples.
        y: Array of labels.
        rank: Number of this process.
        processes: How many there are.
    """

    def __init__(self, x, y, rank, processes):
        super().__init__()
        self.x, self.y, self.epoch = x, y, 0
        self.rank, self.processes = rank, processes
        self.on_epoch_begin()

    def __len__(self):
        return len(self.x) // FLAGS.batch_size

    def on_epoch_begin(self):
        """Shuffles."""
        rng = np.random.default_rng([FLAGS.seed, self.epoch])
        self.order = rng.permutation(len(self.x))
        self.epoch += 1

    def __getitem__(self, i):
        batch = self.order[i * FLAGS.batch_size : (i + 1) * FLAGS.batch_size]
        share = np.array_split(batch, self.processes)[self.rank]
        return self.x[share], self.y[share]


def epochs():
    """How many epochs to train."""
    return 3 if FLAGS.smoke else FLAGS.epochs


def network_and_share(rank, processes):
    """A new network, alike in all processes, and this one's `Share` of the data."""
    keras.utils.set_random_seed(FLAGS.seed)
    data = load_dataset(FLAGS.dataset)
    model = build_architecture(FLAGS.architecture, data.input_shape, data.num_classes)
    samples = 512 if FLAGS.smoke else FLAGS.samples
    x, y = data.x_train[:samples], data.y_train[:samples]
    return model, Share(x, y, rank, processes)


def finish(model, share, out, devices, processes):
    """Writes the model to a folder, and tells how it went on all of the data."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.keras")
    found = model.predict(share.x, FLAGS.batch_size, verbose=0).argmax(-1)
    compression = scl_keras.summary(model, print_fn=None).compression
    print(
        f"{devices} devices, {processes} processes: training accuracy "
        f"{np.mean(found == share.y):.2%}, {compression:.1f}x, {out / 'model.keras'}"
    )
