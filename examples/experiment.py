"""What the training binaries share: flags, data, compiling, progress and results."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from records import command_line, versions, write_json

from scl_keras.architectures import ARCHITECTURES, build_architecture
from scl_keras.datasets import DATASETS, load_dataset

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "digits", DATASETS, "Data set to train on.")
flags.DEFINE_enum(
    "architecture", "lenet_300_100", sorted(ARCHITECTURES), "Network to train."
)
flags.DEFINE_float(
    "width", None, "Multiplier on the filters, of the networks that have one."
)
flags.DEFINE_bool("download", False, "Let TFDS download the data set if it is absent.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS data sets; default: $TFDS_DATA_DIR."
)
flags.DEFINE_integer("batch_size", 64, "Samples a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Adam's first rate; decays by a cosine.")
# XLA makes convolutions slower on CPUs: a step of LeNet-5 takes about twice as long.
flags.DEFINE_bool("jit_compile", False, "Compile the training step with XLA.")
flags.DEFINE_integer("seed", 0, "Seed of weights, shuffling and dropout.")
flags.DEFINE_string(
    "out", None, "Folder to write to; default: runs/<dataset>_<architecture>."
)
flags.DEFINE_bool(
    "validate",
    False,
    "Hold out a fifth of the training data, drawn by --seed, as the test data.",
)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_bool("verbose", False, "Keras's own bar for each epoch, not one for all.")


def main(run):
    """Runs a binary: parses the flags, prints user errors without a traceback."""

    def guarded(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
        # What saving and converting say of themselves would bury the table.
        logging.set_verbosity(logging.ERROR)
        tf.get_logger().setLevel("ERROR")
        try:
            run()
        except (ImportError, OSError, ValueError) as error:
            sys.exit(f"{type(error).__name__}: {error}")

    app.run(guarded)


def load_data():
    """The data set of the flags, and what to train and to test on."""
    data = load_dataset(FLAGS.dataset, data_dir=FLAGS.data_dir, download=FLAGS.download)
    train, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
    if FLAGS.validate:
        order = np.random.default_rng(FLAGS.seed).permutation(len(data.y_train))
        held_out, kept = np.split(order, [len(order) // 5])
        train, test = [tuple(x[part] for x in train) for part in (kept, held_out)]
    n = 512 if FLAGS.smoke else None
    return data, tuple(x[:n] for x in train), tuple(x[:n] for x in test)


def build(data):
    """A new network of the flags' architecture."""
    arguments = {} if FLAGS.width is None else {"width": FLAGS.width}
    return build_architecture(
        FLAGS.architecture, data.input_shape, data.num_classes, **arguments
    )


def compile_model(model, samples, epochs, **scl_arguments):
    """Compiles for classification: Adam with a cosine decay over all steps."""
    steps = epochs * -(-samples // FLAGS.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=FLAGS.jit_compile,
        **scl_arguments,
    )


def fit(model, train, test, epochs, callbacks=()):
    """Trains with one progress bar over all epochs; returns Keras's `History`."""
    bar = [] if FLAGS.verbose else [EpochProgbar(["accuracy", "val_accuracy"])]
    return model.fit(
        *train,
        batch_size=FLAGS.batch_size,
        epochs=epochs,
        validation_data=test,
        callbacks=[*callbacks, *bar],
        verbose=1 if FLAGS.verbose else 0,
    )


class EpochProgbar(keras.callbacks.Callback):
    """One progress bar over the epochs, with the figures of the last one."""

    def __init__(self, metrics):
        super().__init__()
        self.metrics = metrics

    def on_train_begin(self, logs=None):
        """Starts the bar."""
        self.bar = keras.utils.Progbar(
            self.params["epochs"],
            unit_name="epoch",
            stateful_metrics=[*self.metrics, "sparsity"],
        )

    def on_epoch_end(self, epoch, logs=None):
        """Moves the bar on."""
        names = [*self.metrics, "sparsity"]
        self.bar.update(epoch + 1, [(n, logs[n]) for n in names if n in logs])


def accuracy(model, data):
    """Share of samples classified rightly."""
    return float(model.evaluate(*data, batch_size=1000, verbose=0)[1])


def out_folder():
    """The folder to write to, made if need be."""
    name = f"runs/{FLAGS.dataset}_{FLAGS.architecture}"
    folder = pathlib.Path(FLAGS.out or name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_flags():
    """The values of the binary's own flags."""
    own = FLAGS.flags_by_module_dict()
    modules = [m for m in own if m == sys.argv[0] or m.endswith("experiment")]
    return {flag.name: flag.value for m in modules for flag in own[m]}


def write_results(path, results):
    """Writes a run's results as JSON, with all that is needed to make them again."""
    document = {
        **results,
        "command": command_line(),
        "flags": run_flags(),
        "versions": versions(),
    }
    write_json(path, document)
