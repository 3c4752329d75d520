r"""How SCL's default rule was chosen: other starts and rates of masks, beside it.

    python examples/benchmarks/tune_rule.py --out=examples/benchmarks/rule

Fine-tunes trained networks as `compare_methods.py` does, on its tasks, and measures on
the last 10,000 training samples, which are left out of the training: test data are not
looked at. One thing differs from the default in each row:

    start   none: all alike; layer: |v| over the root mean square of its kernel;
            network: over that of all kernels; lamp: the root of its LAMP score; inputs,
            the default: `start_from_magnitudes`
    height  the root mean square of all mask variables at the start
    rate    of the masks, at first
    falls   by a cosine to zero, or not at all

Each run is kept as JSON in --out/runs; several processes may share the folder. Then it
writes rule.md there, and prints it: mean validation accuracies in percent.
"""

import dataclasses
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from comparison import study, training
from comparison.methods import METHODS, Method
from comparison.plan import TASKS
from comparison.recipes import Prepared
from comparison.store import Store
from comparison.tasks import Run, title_of
from records import write_text

import scl_keras
from scl_keras.masks import start_from_magnitudes
from scl_keras.pruning import LAMP
from scl_keras.pruning.network import PrunableNetwork

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0", "1"], "Seeds, one run each.")
flags.DEFINE_multi_enum("network", None, list(TASKS["finetuned"]), "Default: all.")
flags.DEFINE_string("data_dir", None, "Folder of the TFDS data sets.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/tune_rule", "Folder to write to.")

DEFAULT = {"start": "inputs", "height": 0.03, "rate": 3e-3, "falls": True}
VARIANTS = [
    DEFAULT,
    *({**DEFAULT, "start": start} for start in ("network", "layer", "lamp", "none")),
    *({**DEFAULT, "height": height} for height in (0.01, 0.1)),
    *({**DEFAULT, "rate": rate} for rate in (1e-3, 1e-2)),
    {**DEFAULT, "falls": False},
    {**DEFAULT, "start": "none", "falls": False},
]
CELLS = {
    "lenet_300_100": (10, 100),
    "lenet_5": (10, 100),
    "small_vgg": (10, 100),
    "vision_transformer": (5, 10),
    "resnet": (10,),
}


class Start(keras.callbacks.Callback):
    """Starts masks as a row says."""

    def __init__(self, start, height):
        super().__init__()
        self.start, self.height = start, height

    def on_train_begin(self, logs=None):
        """Sets the mask variables."""
        masks = scl_keras.find_masks(self.model)
        if self.start == "inputs":
            start_from_magnitudes(masks, self.height)
            return
        scores = self._scores(masks)
        squares = np.concatenate([np.square(x).ravel() for x in scores])
        scale = self.height / np.sqrt(squares.mean())
        for mask, score in zip(masks, scores, strict=True):
            mask.variable.assign(np.clip(scale * score, 0.01 * self.height, 1))

    def _scores(self, masks):
        network = PrunableNetwork(self.model)
        if self.start == "none":
            return [np.ones(mask.kernel_shape) for mask in masks]
        if self.start == "lamp":
            found = [np.sqrt(score) for score in LAMP().scores(network)]
        else:
            found = [np.abs(weights) for weights in network.weights()]
        if self.start == "network":
            return found
        return [score / np.sqrt(np.mean(np.square(score))) for score in found]


def variant(model, run, data, epochs, start, height, rate, falls):
    """A recipe, as those in `comparison.recipes`."""
    scl_keras.sparsify(model)
    until = max(1, round(epochs * 2 / 3)) * run.task.steps(data)
    schedule = keras.optimizers.schedules.CosineDecay(rate, until)
    arguments = {"mask_optimizer": keras.optimizers.SGD(schedule if falls else rate)}
    if falls and rate == DEFAULT["rate"]:
        arguments = {}  # the optimizer that there is by default
    target = scl_keras.TargetSparsity(compression=run.compression, start=None)
    return Prepared(model, arguments, callbacks=[Start(start, height), target])


METHODS["variant"] = Method("SCL by another rule", variant, usual=False)


def plan():
    """All runs: a seed of everything, then the next."""
    tasks = TASKS["finetuned"]
    seeds = list(map(int, FLAGS.seeds))[: 1 if FLAGS.smoke else None]
    networks = FLAGS.network or list(CELLS)
    variants = VARIANTS[:2] if FLAGS.smoke else VARIANTS
    cells = [(name, c) for name in networks for c in CELLS[name]]
    if FLAGS.smoke:
        small = {"dataset": "digits", "dense_epochs": 1, "epochs": 3, "samples": 256}
        tasks = {"lenet_300_100": dataclasses.replace(tasks["lenet_300_100"], **small)}
        cells = [("lenet_300_100", 10)]
    return [
        Run(tasks[name].validating(), "variant", c, seed, tuple(values.items()))
        for seed in seeds
        for name, c in cells
        for values in variants
    ]


def table(runs, results):
    """Rows of variants, columns of cells, and how far each is from the default."""
    found = {}
    for run, result in zip(runs, results, strict=True):
        cell = f"{title_of(run.task)}, {run.compression:g}x"
        accuracy = 100 * (result["validation_accuracy"] or 0.0)
        found.setdefault(run.parameters, {}).setdefault(cell, []).append(accuracy)
    means = {key: {c: np.mean(x) for c, x in row.items()} for key, row in found.items()}
    cells, default = list(next(iter(means.values()))), means[tuple(DEFAULT.items())]
    lines = [
        " | ".join(["| rule", *cells, "mean difference |"]),
        "|---" * (len(cells) + 2),
    ]
    lines[1] += "|"
    for key, row in means.items():
        changed = [f"{k} {v}" for k, v in key if DEFAULT[k] != v] or ["default"]
        difference = np.mean([row[cell] - default[cell] for cell in cells])
        figures = [f"{row[cell]:.2f}" for cell in cells]
        lines.append(
            f"| {' | '.join([', '.join(changed), *figures])} | {difference:+.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(argv):
    """Makes what is missing, then shows all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    store, runs = Store(FLAGS.out), plan()
    results = study.complete(
        runs, store, lambda task: task.load(FLAGS.data_dir), training.train
    )
    text = table(runs, results)
    write_text(store.top / "rule.md", text)
    print(text)


if __name__ == "__main__":
    app.run(main)
