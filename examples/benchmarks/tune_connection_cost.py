r"""Which connection cost buys how much sparsity: a frontier, by KerasTuner.

    python examples/benchmarks/tune_connection_cost.py --dataset=mnist

By itself it tries one cost after the other. On several machines, or in several
processes, KerasTuner shares them out: start the same command everywhere, with the
address of the first in the environment, a name for each, and a folder --out that all of
them see.

    export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000
    KERASTUNER_TUNER_ID=chief  python examples/benchmarks/tune_connection_cost.py \
        --out=/shared/t
    KERASTUNER_TUNER_ID=tuner0 python examples/benchmarks/tune_connection_cost.py \
        --out=/shared/t
    KERASTUNER_TUNER_ID=tuner1 python examples/benchmarks/tune_connection_cost.py \
        --out=/shared/t

The chief only hands out the costs; it comes back when all are done, prints a Markdown
table, and writes it to --out as frontier.json.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import keras
import keras_tuner
from absl import app, flags
from records import write_json

import scl_keras
from scl_keras.architectures import ARCHITECTURES, build_architecture
from scl_keras.datasets import DATASETS, load_dataset

FLAGS = flags.FLAGS
flags.DEFINE_enum("dataset", "digits", DATASETS, "Data set to train on.")
flags.DEFINE_enum(
    "architecture", "lenet_300_100", sorted(ARCHITECTURES), "Network to train."
)
flags.DEFINE_list(
    "costs", ["0.05", "0.1", "0.2", "0.3", "0.5", "0.8"], "Connection costs to try."
)
flags.DEFINE_integer("epochs", 30, "Epochs of each, a third with frozen masks.")
flags.DEFINE_integer("batch_size", 64, "Samples a step.", lower_bound=1)
flags.DEFINE_integer("samples", None, "How many samples to train on, if not all.")
flags.DEFINE_integer("seed", 0, "Seed of weights and shuffling.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/tune_connection_cost", "Folder to write to.")


class Frontier(keras_tuner.HyperModel):
    """A network whose connection cost is to be chosen."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def build(self, hp):
        """The model with the cost at hand."""
        keras.utils.set_random_seed(FLAGS.seed)
        shape, classes = self.data.input_shape, self.data.num_classes
        model = build_architecture(FLAGS.architecture, shape, classes)
        model = scl_keras.sparsify(model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        cost = hp.Choice("connection_cost", costs())
        model.compile("adam", loss, metrics=["accuracy"], connection_cost=cost)
        return model

    def fit(self, hp, model, *args, **kwargs):
        """Trains; what counts is the last epoch, not the most accurate."""
        history = model.fit(*args, **kwargs).history
        return {name: float(values[-1]) for name, values in history.items()}


def costs():
    """The costs to try, in order; two of them in a smoke run."""
    return sorted(map(float, FLAGS.costs))[: 2 if FLAGS.smoke else None]


def main(argv):
    """Searches; the chief, or the only process, reports."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    data = load_dataset(FLAGS.dataset)
    tuner = keras_tuner.GridSearch(
        Frontier(data),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        directory=FLAGS.out,
        project_name="trials",
        seed=FLAGS.seed,
    )
    samples, epochs = (512, 3) if FLAGS.smoke else (FLAGS.samples, FLAGS.epochs)
    tuner.search(
        data.x_train[:samples],
        data.y_train[:samples],
        validation_data=(data.x_test, data.y_test),
        batch_size=FLAGS.batch_size,
        epochs=epochs,
        callbacks=[scl_keras.FreezeMasks(epochs * 2 // 3)],
        verbose=0,
    )
    if os.environ.get("KERASTUNER_TUNER_ID", "chief") == "chief":
        report(tuner)


def report(tuner):
    """Prints the table, writes the file."""
    names = ("compression", "accuracy", "val_accuracy")
    rows = [
        {"connection_cost": trial.hyperparameters.get("connection_cost")}
        | {name: trial.metrics.get_best_value(name) for name in names}
        for trial in tuner.oracle.get_best_trials(len(costs()))
    ]
    rows.sort(key=lambda row: row["connection_cost"])
    write_json(pathlib.Path(FLAGS.out) / "frontier.json", rows)
    print("| connection cost | compression | accuracy |\n|---|---|---|")
    for row in rows:
        print(
            f"| {row['connection_cost']:g} | {row['compression']:.1f}x | "
            f"{row['val_accuracy']:.2%} |"
        )


if __name__ == "__main__":
    app.run(main)
