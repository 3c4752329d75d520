r"""How SCL's default rule was chosen: other starts and rates of masks, beside it.

    python examples/benchmarks/tune_rule.py --out=examples/benchmarks/rule

Trains networks as `compare_methods.py` does, on its tasks and a short one on digits,
and measures on the last training samples, which are left out of the training: test data
are not looked at. In the first table, up to 100x, one thing differs from the first row
in each other one:

    start   none: all alike; layer: |v| over the root mean square of its kernel;
            network: over that of all kernels; lamp: the root of its LAMP score; inputs,
            the default: `start_from_magnitudes`; both: as that, with the sum of
            connections per feature and features in their place
    height  the root mean square of all mask variables at the start
    rate    of the masks, at first; steps: by the number S of steps until they freeze,
            0.003 · sqrt(1000 / S)
    falls   by a cosine to zero, or not at all

The second table tells when the rate begins to fall, from 30x to 1,000x: from the first
step on (True), as it does by default (late: over the share of one factor of ten, see
`TargetSparsity`), or not at all (False). Up to 10x the first two are the same.

Each run is kept as JSON in --out/runs; several processes may share the folder. Then it
writes rule.md there (with --notrain, of what is there), and prints it: mean validation
accuracies in percent, of trained networks and of initial weights.
"""

import dataclasses
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import numpy as np
from absl import app, flags
from comparison import computing, study, training
from comparison.methods import METHODS, Method
from comparison.plan import TASKS
from comparison.recipes import Prepared
from comparison.store import Store
from comparison.tasks import PROTOCOLS, Run, title_of
from records import write_text

import scl_keras
from scl_keras.masks import start_from_magnitudes
from scl_keras.pruning import LAMP
from scl_keras.pruning.network import PrunableNetwork

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0", "1"], "Seeds, one run each.")
flags.DEFINE_multi_enum("protocol", list(TASKS), list(TASKS), "Default: both.")
flags.DEFINE_multi_enum("network", None, list(TASKS["finetuned"]), "Default: all.")
flags.DEFINE_string("data_dir", None, "Folder of the TFDS data sets.")
flags.DEFINE_bool("train", True, "Whether to train what is missing.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/tune_rule", "Folder to write to.")

DEFAULT = {"start": "inputs", "height": 0.03, "rate": 3e-3, "falls": True}
STARTS = ("network", "both", "layer", "lamp", "none")
VARIANTS = [
    DEFAULT,
    *({**DEFAULT, "start": start} for start in STARTS),
    *({**DEFAULT, "height": height} for height in (0.01, 0.1)),
    *({**DEFAULT, "rate": rate} for rate in (1e-3, 1e-2, "steps")),
    {**DEFAULT, "falls": False},
    {**DEFAULT, "start": "none", "falls": False},
]
LATE = [{**DEFAULT, "falls": falls} for falls in (True, "late", False)]
COMPRESSIONS = {
    "lenet_300_100": (10, 100),
    "lenet_5": (10, 100),
    "small_vgg": (10, 100),
    "vision_transformer": (5, 10),
    "resnet": (10,),
}
FAR_COMPRESSIONS = {
    "lenet_300_100": (30, 100, 300, 1000),
    "lenet_5": (100, 1000),
    "small_vgg": (30, 100),
    "vision_transformer": (30, 100),
}
DIGITS = dataclasses.replace(
    TASKS["finetuned"]["lenet_300_100"],
    dataset="digits",
    batch_size=64,
    dense_epochs=30,
    epochs=9,
)


def cells(protocols):
    """Pairs of a task and a compression."""
    found = [
        (TASKS[protocol][network].validating(), compression)
        for protocol in protocols
        for network, compressions in COMPRESSIONS.items()
        for compression in compressions
        if (protocol, network) != ("initial", "resnet")  # which takes long
    ]
    digits = [(DIGITS.validating(), c) for c in (10, 50)]
    return found + (digits if "finetuned" in protocols else [])


def far_cells():
    """The same for the table of when the rate begins to fall."""
    return [
        (TASKS["finetuned"][network].validating(), compression)
        for network, compressions in FAR_COMPRESSIONS.items()
        for compression in compressions
    ]


def cell_of(run):
    """The pair of a run."""
    return run.task, run.compression


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
        found = [score / np.sqrt(np.mean(np.square(score))) for score in found]
        if self.start == "both":
            sizes = [x.shape[-1] + x.size / x.shape[-1] for x in found]
            found = [x / np.sqrt(n) for x, n in zip(found, sizes, strict=True)]
        return found


def variant(model, run, data, epochs, start, height, rate, falls):
    """A recipe, as those in `comparison.recipes`."""
    scl_keras.sparsify(model)
    until = max(1, round(epochs * 2 / 3)) * run.task.steps(data)
    if rate == "steps":
        rate = 3e-3 * (1000 / until) ** 0.5
    schedule = keras.optimizers.schedules.CosineDecay(rate, until)
    arguments = {"mask_optimizer": keras.optimizers.SGD(schedule if falls else rate)}
    if falls == "late":
        arguments = {}  # the optimizer that there is by default
    target = scl_keras.TargetSparsity(compression=run.compression, start=None)
    return Prepared(model, arguments, callbacks=[Start(start, height), target])


METHODS["variant"] = Method("SCL by another rule", variant, usual=False)


def plan():
    """All runs: a seed of everything, then the next."""
    if FLAGS.smoke:
        tasks = [dataclasses.replace(DIGITS, dense_epochs=1, epochs=3, samples=256)]
        wanted = [((task.validating(), 10), VARIANTS[:2]) for task in tasks]
    else:
        wanted = [(cell, VARIANTS) for cell in cells(FLAGS.protocol)]
        if "finetuned" in FLAGS.protocol:
            wanted += [(cell, LATE) for cell in far_cells()]
    runs = [
        Run(task, "variant", compression, seed, tuple(values.items()))
        for seed in list(map(int, FLAGS.seeds))[: 1 if FLAGS.smoke else None]
        for (task, compression), variants in wanted
        if FLAGS.network is None or task.network in FLAGS.network
        for values in variants
    ]
    return list(dict.fromkeys(runs))


def table(runs, results):
    """Rows of variants, columns of cells, and how far each is from the default.

    The difference is the mean, over the cells that have both, of the mean over seeds.
    """
    found = {}
    for run, result in zip(runs, results, strict=True):
        name = "digits" if run.task.dataset == "digits" else title_of(run.task)
        cell = f"{name}, {run.compression:g}x"
        accuracy = 100 * (result["validation_accuracy"] or 0.0)
        found.setdefault(run.parameters, {}).setdefault(cell, {})[run.seed] = accuracy
    default = found.get(tuple(DEFAULT.items()), {})
    names = list(dict.fromkeys(cell for row in found.values() for cell in row))
    lines = [
        " | ".join(["| rule", *names, "mean difference, cells |"]),
        "|---" * (len(names) + 2) + "|",
    ]
    for key, row in found.items():
        changed = [f"{k} {v}" for k, v in key if DEFAULT[k] != v] or ["default"]
        figures = [
            f"{np.mean([*row[cell].values()]):.2f}" if cell in row else "-"
            for cell in names
        ]
        differences = _differences(row, default)
        mean = f"{np.mean(differences):+.2f}" if differences else "-"
        cells = [", ".join(changed), *figures, f"{mean}, {len(differences)}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _differences(row, default):
    """By how much a row is above the default in each cell, over the seeds of both."""
    found = []
    for cell, accuracies in row.items():
        both = accuracies.keys() & default.get(cell, {}).keys()
        if both:
            found.append(
                np.mean([accuracies[seed] - default[cell][seed] for seed in both])
            )
    return found


def tables(runs, results):
    """A table for each protocol."""
    pairs = list(zip(runs, results, strict=True))
    far, late = far_cells(), [tuple(values.items()) for values in LATE]
    only_far = [cell for cell in far if cell not in cells(TASKS)]
    groups = {
        title[0].upper() + title[1:]: [
            pair
            for pair in pairs
            if pair[0].task.protocol == protocol
            and cell_of(pair[0]) not in only_far
            and pair[0].parameters != late[1]
        ]
        for protocol, title in PROTOCOLS.items()
    }
    groups["When the rate begins to fall"] = [
        pair for pair in pairs if cell_of(pair[0]) in far and pair[0].parameters in late
    ]
    return "\n".join(
        f"{heading}:\n\n{table(*zip(*chosen, strict=True))}"
        for heading, chosen in groups.items()
        if chosen
    )


def main(argv):
    """Makes what is missing, then shows all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    computing.limit_threads(1)
    store, runs = Store(FLAGS.out), plan()
    if FLAGS.train:
        study.complete(
            runs, store, lambda task: task.load(FLAGS.data_dir), training.train
        )
    runs = [run for run in runs if store.find(run) is not None]
    results = [store.find(run) for run in runs]
    text = tables(runs, results)
    write_text(store.top / "rule.md", text)
    print(text)


if __name__ == "__main__":
    app.run(main)
