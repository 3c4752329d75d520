r"""Which connection cost buys how much sparsity: a frontier.

    python examples/benchmarks/tune_connection_cost.py --dataset=mnist

Trains a network with each of --costs. On several machines, or in several processes, the
costs are shared out: start the same command everywhere, with a folder --out that all of
them see. What was interrupted goes on where it stopped. Each result is kept as JSON in
--out/runs; when all are there, they are printed as a Markdown table, and written to
--out as frontier.json.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import keras
from absl import app, flags
from grid import Grid, Run
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


def run_of(cost):
    """The training with a connection cost, with all that its result depends on."""
    names = ("dataset", "architecture", "epochs", "batch_size", "samples", "seed")
    setting = {name: FLAGS[name].value for name in names}
    if FLAGS.smoke:
        setting |= {"samples": 512, "epochs": 3}
    return Run(f"cost_{cost:g}", {"connection_cost": cost, **setting})


def train(run, data):
    """The figures of a run after its last epoch: a dict."""
    setting = run.setting()
    keras.backend.clear_session()
    keras.utils.set_random_seed(setting["seed"])
    model = build_architecture(
        setting["architecture"], data.input_shape, data.num_classes
    )
    scl_keras.sparsify(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    cost, epochs = setting["connection_cost"], setting["epochs"]
    model.compile("adam", loss, metrics=["accuracy"], connection_cost=cost)
    history = model.fit(
        data.x_train[: setting["samples"]],
        data.y_train[: setting["samples"]],
        validation_data=(data.x_test, data.y_test),
        batch_size=setting["batch_size"],
        epochs=epochs,
        callbacks=[scl_keras.FreezeMasks(epochs * 2 // 3), scl_keras.MaskLogger()],
        verbose=0,
    )
    return {name: float(values[-1]) for name, values in history.history.items()}


def main(argv):
    """Trains with the costs that are missing, then reports all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # Two of them in a smoke run.
    costs = sorted(map(float, FLAGS.costs))[: 2 if FLAGS.smoke else None]
    data, folder = load_dataset(FLAGS.dataset), pathlib.Path(FLAGS.out)
    runs = [run_of(cost) for cost in costs]
    results = Grid(folder / "runs").complete(runs, lambda run: train(run, data))
    names = ("compression", "accuracy", "val_accuracy")
    rows = [
        {"connection_cost": cost} | {name: result[name] for name in names}
        for cost, result in zip(costs, results, strict=True)
    ]
    write_json(folder / "frontier.json", rows)
    print("| connection cost | compression | accuracy |\n|---|---|---|")
    for row in rows:
        print(
            f"| {row['connection_cost']:g} | {row['compression']:.1f}x | "
            f"{row['val_accuracy']:.2%} |"
        )


if __name__ == "__main__":
    app.run(main)
