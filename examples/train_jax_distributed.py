r"""Learns masks on several devices or machines, with JAX and `keras.distribution`.

On one machine, on all its accelerators (--cpu_devices makes some of a CPU):

    KERAS_BACKEND=jax python examples/train_jax_distributed.py

On two machines, the first of which is 10.0.0.1, one command on each:

    KERAS_BACKEND=jax python examples/train_jax_distributed.py \
        --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=0
    KERAS_BACKEND=jax python examples/train_jax_distributed.py \
        --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1

--batch_size is that of all devices together, of which each process feeds its share:
masks and weights are those that one device learns with the same batches. Process 0
writes model.keras to the folder --out. It is exported to TFLite from TensorFlow:

    KERAS_BACKEND=tensorflow python -m scl_keras export model.keras \
        --out=model.tflite --data=samples.npy
"""

import pathlib
import sys

import keras
import numpy as np
from absl import app, flags

import scl_keras
from scl_keras.architectures import ARCHITECTURES, build_architecture
from scl_keras.datasets import DATASETS, load_dataset

FLAGS = flags.FLAGS
flags.DEFINE_string("coordinator", None, "Address of process 0, as host:port.")
flags.DEFINE_integer("num_processes", 1, "Number of processes.", lower_bound=1)
flags.DEFINE_integer("process_id", 0, "Number of this process.", lower_bound=0)
flags.DEFINE_integer("cpu_devices", 0, "Devices to make of this machine's CPU.")
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
flags.DEFINE_string("out", "runs/jax_distributed", "Folder to write to.")


class Share(keras.utils.PyDataset):
    """One process's share of each batch, shuffled alike in all processes."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.epoch = x, y, 0
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
        share = np.array_split(batch, FLAGS.num_processes)[FLAGS.process_id]
        return self.x[share], self.y[share]


def connect():
    """Starts JAX on all devices of all processes."""
    import jax

    if FLAGS.cpu_devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", FLAGS.cpu_devices)
    if FLAGS.num_processes > 1:
        # What processes on CPUs talk with; accelerators have their own.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(
            FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id
        )
    # Each process feeds its share already; Keras could only split a `tf.data.Dataset`.
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    return len(keras.distribution.list_devices())


def main(argv):
    """Trains; process 0 reports and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    if keras.backend.backend() != "jax":
        sys.exit("Set KERAS_BACKEND=jax: this is JAX's way to many devices.")
    if (FLAGS.num_processes > 1) != bool(FLAGS.coordinator):
        sys.exit("Several processes need --coordinator, and one must not have it.")
    devices = connect()
    if FLAGS.batch_size % devices:
        sys.exit(f"--batch_size must be a multiple of the {devices} devices.")
    keras.utils.set_random_seed(FLAGS.seed)
    data = load_dataset(FLAGS.dataset)
    model = build_architecture(FLAGS.architecture, data.input_shape, data.num_classes)
    scl_keras.sparsify(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(FLAGS.learning_rate)
    model.compile(optimizer, loss, metrics=["accuracy"])
    samples, epochs = (512, 3) if FLAGS.smoke else (FLAGS.samples, FLAGS.epochs)
    share = Share(data.x_train[:samples], data.y_train[:samples])
    target = scl_keras.TargetSparsity(FLAGS.sparsity)
    history = model.fit(share, epochs=epochs, callbacks=[target], verbose=0)
    if FLAGS.process_id:
        return
    # Saving makes variables, and would wait for the others to make them, too.
    keras.distribution.set_distribution(None)
    out = pathlib.Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.keras")
    last = {name: float(values[-1]) for name, values in history.history.items()}
    compression = 1 / (1 - last["sparsity"])
    print(
        f"{devices} devices, {FLAGS.num_processes} processes: training accuracy "
        f"{last['accuracy']:.2%}, {compression:.1f}x, {out / 'model.keras'}"
    )


if __name__ == "__main__":
    app.run(main)
