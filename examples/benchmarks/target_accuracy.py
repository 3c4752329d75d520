r"""`TargetAccuracy` against a grid of `TargetSparsity` runs.

    python examples/benchmarks/target_accuracy.py \
        --out=examples/benchmarks/target_accuracy

From the same trained network, a grid of trainings to compressions from 2x to 1,000x,
and one training for each bound of 0.5, 1 and 2 points. The grid's best is the largest
compression whose drop, on held-out training data, is within the bound. All have Adam
with a cosine decay to zero, from the same rate. A training with `TargetAccuracy` has a
fifth of the epochs of the whole grid; a grid that is to be run for each bound anew
isn't needed, so that one grid serves all bounds.

Each run is kept as JSON in --out/runs; several processes may share the folder. Then it
writes table.md there, and prints it: what share of the grid's best, of logarithms of
compressions, was reached; the drops on held-out data, by which the bound is met, and on
test data, which nobody has looked at before.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import numpy as np
from absl import app, flags
from comparison import computing
from comparison.plan import TASKS
from comparison.store import Store
from comparison.tasks import title_of
from comparison.training import jit_of
from grid import Run, digest
from records import write_text

import scl_keras
from scl_keras.datasets import load_dataset

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, a grid each.")
flags.DEFINE_multi_enum("network", None, list(TASKS["finetuned"]), "Default: all.")
flags.DEFINE_bool("train", True, "Make the runs that are missing.")
flags.DEFINE_list("compressions", None, "Of the grid, those to train. Default: all.")
flags.DEFINE_string("data_dir", None, "Folder of the TFDS data sets.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/target_accuracy", "Folder to write to.")

GRID = (2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
BOUNDS = (0.5, 1.0, 2.0)  # points
EPOCHS = 6  # of a run of the grid
SEARCH = len(GRID) * EPOCHS // 5  # and of one with `TargetAccuracy`


def task_of(network):
    """The comparison's task; ResNet-8 with fewer samples, which is dear."""
    task = TASKS["finetuned"][network]
    if network == "resnet":
        task = dataclasses.replace(task, samples=10_000)
    if FLAGS.smoke:
        small = {"dataset": "digits", "dense_epochs": 2, "samples": 512}
        task = dataclasses.replace(task, **small)
    return task.validating()


def run_of(network, seed, epochs, **target):
    """One training: `compression=` of the grid, or a `bound=` in points."""
    (kind, value) = next(iter(target.items()))
    task = dataclasses.asdict(task_of(network))
    values = {"task": task, "seed": seed, "epochs": epochs, **target}
    return Run(f"{network}_{kind}_{value:g}_seed{seed}", values)


def plan():
    """All runs: for each network and seed a grid, and the bounds."""
    networks = FLAGS.network or (
        ["lenet_300_100"] if FLAGS.smoke else list(TASKS["finetuned"])
    )
    seeds = [0] if FLAGS.smoke else list(map(int, FLAGS.seeds))
    grid, bounds = (GRID[3:5], BOUNDS[-1:]) if FLAGS.smoke else (GRID, BOUNDS)
    if FLAGS.compressions:
        grid = [c for c in grid if str(c) in FLAGS.compressions]
    few, many = (3, 4) if FLAGS.smoke else (EPOCHS, SEARCH)
    return [
        run
        for network in networks
        for seed in seeds
        for run in (
            *(run_of(network, seed, few, compression=c) for c in grid),
            *(run_of(network, seed, many, bound=b) for b in bounds),
        )
    ]


def make(run, store):
    """Trains, and measures: a dict of figures."""
    values = run.values
    task = task_of(values["task"]["network"])
    data = task.load(FLAGS.data_dir)
    held_out = data.x_test, data.y_test
    test = load_dataset(task.dataset, data_dir=FLAGS.data_dir)
    keras.backend.clear_session()
    keras.utils.set_random_seed(values["seed"])
    model = trained(task, data, values["seed"], store)
    before = [measure(model, x) for x in (held_out, (test.x_test, test.y_test))]
    keras.utils.set_random_seed(values["seed"])
    scl_keras.sparsify(model)
    if "bound" in values:
        target = scl_keras.TargetAccuracy(values["bound"] / 100)
    else:
        target = scl_keras.TargetSparsity(compression=values["compression"])
    fit(model, task, data, values["epochs"], [target], held_out)
    after = [measure(model, x) for x in (held_out, (test.x_test, test.y_test))]
    table = scl_keras.summary(model, print_fn=None)
    return {
        "compression": table.compression,
        "effective_compression": table.effective_compression,
        "drop": 100 * (before[0] - after[0]),
        "test_drop": 100 * (before[1] - after[1]),
        "met": getattr(target, "met", None),
        "history": getattr(target, "history", None),
    }


def trained(task, data, seed, store):
    """The dense network, trained once a seed."""
    model = task.build(data)

    def weights():
        fit(model, task, data, task.dense_epochs)
        return model.get_weights(), 0.0

    setting = {**dataclasses.asdict(task), "seed": seed}
    name = f"{task.network}_seed{seed}_{digest(setting)}"
    model.set_weights(store.weights(name, weights)[0])
    return model


def fit(model, task, data, epochs, callbacks=(), held_out=None):
    """Trains a model, as all are."""
    steps = epochs * task.steps(data)
    schedule = keras.optimizers.schedules.CosineDecay(task.learning_rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_of(task),
    )
    model.fit(
        data.x_train,
        data.y_train,
        task.batch_size,
        epochs=epochs,
        validation_data=held_out,
        validation_batch_size=1000,
        callbacks=list(callbacks),
        verbose=0,
    )


def measure(model, pair):
    """Accuracy on images and labels."""
    x, y = pair
    return float(np.mean(model.predict(x, 1000, verbose=0).argmax(-1) == y))


def comparisons(runs, results):
    """Each run with a bound beside the best of its grid: a list of dicts."""
    found = list(zip(runs, results, strict=True))
    pairs = []
    for run, result in found:
        if "bound" not in run.values:
            continue
        network, bound = run.values["task"]["network"], run.values["bound"]
        grid = [
            other["compression"]
            for r, other in found
            if "compression" in r.values
            and r.values["seed"] == run.values["seed"]
            and r.values["task"]["network"] == network
            and other["drop"] <= bound
        ]
        best = max(grid, default=1.0)
        share = math.log(result["compression"]) / math.log(best) if best > 1 else 1.0
        names = {"network": network, "bound": bound, "best": best, "share": share}
        pairs.append({**result, **names})
    return pairs


def table(pairs):
    """Rows of networks and bounds; one number a seed."""
    heads = ["network", "bound, points", "grid's best", "found", "share"]
    heads += ["drop, validation data", "drop, test data"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for network, bound in dict.fromkeys((x["network"], x["bound"]) for x in pairs):
        own = [x for x in pairs if (x["network"], x["bound"]) == (network, bound)]
        cells = [title_of(task_of(network)), f"{bound:g}"]
        for name, form in (
            *(("best", "{:.0f}x"), ("compression", "{:.3g}x"), ("share", "{:.2f}")),
            *(("drop", "{:.2f}"), ("test_drop", "{:.2f}")),
        ):
            cells.append(", ".join(form.format(x[name]) for x in own))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def remark(pairs):
    """What all of them come to: a sentence or two."""
    shares = [x["share"] for x in pairs]
    met = [sum(x[name] <= x["bound"] for x in pairs) for name in ("drop", "test_drop")]
    return (
        f"In {len(pairs)} runs the share is {statistics.mean(shares):.2f} on average, "
        f"and {min(shares):.2f} at the least. The bound is met on validation data in "
        f"{met[0]} of them, and on test data in {met[1]}.\n"
    )


def main(argv):
    """Makes what is missing, then shows all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    computing.limit_threads(1)
    store, runs = Store(FLAGS.out), plan()

    def quietly(run):
        with contextlib.redirect_stdout(None):
            return make(run, store)

    if FLAGS.train:
        results = store.complete(runs, quietly)
    else:
        runs = [run for run in runs if store.find(run)]
        results = [store.find(run) for run in runs]
    pairs = comparisons(runs, results)
    text = f"{table(pairs)}\n{remark(pairs)}"
    write_text(store.top / "table.md", text)
    print(text)


if __name__ == "__main__":
    app.run(main)
