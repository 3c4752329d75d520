r"""Compares direct with effective compression of pruning methods, and what they cost.

    python examples/benchmarks/effective_sparsity.py --network=lenet_300_100 \
        --network=vgg_16
    python examples/benchmarks/effective_sparsity.py --accuracy --dataset=mnist \
        --epochs=10

Prunes new networks by each method to each of --compressions and counts which of the
kept connections are effective, that is, lie on a path from input to output (Vysogorets
& Kempe, arXiv 2107.02306). With --accuracy it also trains LeNet-300-100 with each
method's masks for --epochs in total: random, SNIP and SynFlow masks are found before
training, magnitude and LAMP masks after half of it, and SCL learns them in the first
two thirds. VGG-16 and ResNet-18 are as wide as in the literature, or --width times as
wide. Each result is kept as JSON in --out/results, so that a run that was interrupted
goes on, and several processes may share the folder; then all are drawn and printed.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import experiment
import keras
import numpy as np
from absl import flags
from grid import Grid, Run
from matplotlib.figure import Figure

import scl_keras
from scl_keras import architectures
from scl_keras.pruning import DisconnectedError, Random, prune
from scl_keras.report.style import QUIET, STRONG, end_labels, in_words, styled

FLAGS = flags.FLAGS
# Builder, shape of images, and width as in the literature.
NETWORKS = {
    "lenet_300_100": (architectures.lenet_300_100, (28, 28, 1), {}),
    "vgg_16": (
        functools.partial(architectures.vgg, depth=16),
        (32, 32, 3),
        {"width": 1.0},
    ),
    "resnet_18": (
        functools.partial(architectures.resnet, depth=18, stages=4),
        (32, 32, 3),
        {"width": 4.0},
    ),
}
METHODS = {
    "random, uniform": {"method": Random, "quotas": "uniform"},
    "random, ERK": {"method": Random, "quotas": "erk"},
    "random, IGQ": {"method": Random, "quotas": "igq"},
    "SNIP": {"method": "snip"},
    "SynFlow": {"method": "synflow"},
    "magnitude": {"method": "magnitude"},
    "LAMP": {"method": "lamp"},
}
_DECISIVE = ("width", "dataset", "samples", "batch_size", "learning_rate", "smoke")
AFTER_TRAINING = ("magnitude", "LAMP")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

flags.DEFINE_multi_enum("network", ["lenet_300_100"], list(NETWORKS), "Networks.")
flags.DEFINE_list("compressions", None, "Direct compressions; default: 10 to 100,000.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, one result each.")
flags.DEFINE_integer("samples", 256, "Samples of the data set that SNIP looks at.")
flags.DEFINE_bool("accuracy", False, "Train LeNet-300-100, too.")
flags.DEFINE_integer("epochs", 10, "Epochs of each training.", lower_bound=3)


def run():
    """Finds what is missing, then shows all."""
    seeds = [int(s) for s in FLAGS.seeds][: 1 if FLAGS.smoke else None]
    default = [10, 1000] if FLAGS.smoke else np.logspace(1, 5, 9).round()
    compressions = [float(c) for c in FLAGS.compressions or default]
    data, train, test = experiment.load_data()
    FLAGS.out = FLAGS.out or f"runs/effective_sparsity_{FLAGS.dataset}"
    grid = Grid(experiment.out_folder() / "results")
    jobs = [
        _job("masks", network=network, method=method, compression=c, seed=seed)
        for network in FLAGS.network
        for method in METHODS
        for c in compressions
        for seed in seeds
    ]
    rows = grid.complete(jobs, lambda job: count_effective(job, train), title="masks")
    _draw(rows, "effective compression", "effective", "effective.png")
    _print(rows)
    if FLAGS.accuracy:
        epochs = 3 if FLAGS.smoke else FLAGS.epochs
        trainings = [
            _job("training", method=method, compression=c, seed=seed, epochs=epochs)
            for method in [*METHODS, "SCL"]
            for c in compressions
            for seed in seeds
        ]
        trained = grid.complete(
            trainings,
            lambda job: train_pruned(job, data, train, test),
            title="trainings",
        )
        _draw(trained, "accuracy", "accuracy", "accuracy.png", x="effective")
        _print(trained)


def _job(what, **arguments):
    """A run of the grid: its arguments, and the flags that it depends on."""
    title = "_".join(str(value).replace(", ", "-") for value in arguments.values())
    decisive = {name: FLAGS[name].value for name in _DECISIVE}
    return Run(f"{what}_{title}", {"what": what, **arguments, **decisive})


def count_effective(job, train):
    """Direct and effective compression of a new network's masks: a dict."""
    network, method, compression, seed = (
        job.values[key] for key in ("network", "method", "compression", "seed")
    )
    model = _new_network(network, seed)
    shape = model.input_shape[1:]
    images, labels = (a[: FLAGS.samples] for a in train)
    images = keras.ops.image.resize(
        keras.ops.repeat(images, shape[-1] // images.shape[-1], axis=-1), shape[:2]
    )
    arguments = {"data": (images, labels), "loss": LOSS}
    _, row = _pruned(model, method, compression, seed, arguments)
    return {"network": network, **row}


def _new_network(name, seed):
    build, shape, widths = NETWORKS[name]
    keras.utils.set_random_seed(seed)
    scale = FLAGS.width or 1.0
    return build(shape, 10, **{key: width * scale for key, width in widths.items()})


def train_pruned(job, data, train, test):
    """Accuracy of LeNet-300-100 with a method's masks: a dict."""
    method, compression, seed, epochs = (
        job.values[key] for key in ("method", "compression", "seed", "epochs")
    )
    keras.utils.set_random_seed(seed)
    model = architectures.lenet_300_100(data.input_shape, data.num_classes)
    result = {"network": "lenet_300_100", "method": method, "direct": compression}
    if method == "SCL":
        model = scl_keras.sparsify(model)
        target = scl_keras.TargetSparsity(compression=compression)
        try:
            _fit(model, train, epochs, [target])
        except ValueError as error:  # fewer connections than layers
            return {**result, "effective": None, "why": str(error)}
        summary = scl_keras.summary(model, print_fn=None)
        result["effective"] = _ratio(summary.connections, summary.effective)
    else:
        first = epochs // 2 if method in AFTER_TRAINING else 0
        if first:
            _fit(model, train, first, [])
        some = {"data": tuple(a[: FLAGS.samples] for a in train), "loss": LOSS}
        model, result = _pruned(model, method, compression, seed, some)
        result = {"network": "lenet_300_100", **result}
        if model is None:
            return result
        _fit(model, train, epochs - first, [])
    return {**result, "accuracy": experiment.accuracy(model, test)}


def _pruned(model, method, compression, seed, arguments):
    """A pruned model, or None where no path is left, and its compressions."""
    row = {"method": method, "direct": compression}
    arguments = {**METHODS[method], **arguments}
    if arguments["method"] is Random:
        arguments["method"] = Random(seed)
    try:
        model = prune(model, **arguments, compression=compression, verbose=0)
    except DisconnectedError as error:
        return None, {**row, "effective": None, "why": str(error)}
    masks = scl_keras.effective_masks(model).values()
    size = sum(mask.size for mask in masks)
    return model, {**row, "effective": _ratio(size, sum(m.sum() for m in masks))}


def _ratio(size, kept):
    return float(size / kept) if kept else None


def _fit(model, train, epochs, callbacks):
    experiment.compile_model(model, len(train[0]), epochs)
    options = {"batch_size": FLAGS.batch_size, "epochs": epochs, "verbose": 0}
    model.fit(*train, **options, callbacks=callbacks)


@styled
def _draw(rows, label, key, name, x="direct"):
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure = Figure(figsize=(6.5 * len(networks), 4.5))
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        ends = []
        for method in dict.fromkeys(row["method"] for row in rows):
            wanted = (network, method)
            points = [r for r in rows if (r["network"], r["method"]) == wanted]
            xs, ys, lows, highs = _means(points, x, key)
            color = {"color": STRONG} if method == "SCL" else {}
            (line,) = axes.plot(xs, ys, "o-", **color)
            axes.fill_between(xs, lows, highs, alpha=0.15, color=line.get_color())
            if xs:
                ends.append((xs[-1], ys[-1], method, line.get_color()))
        axes.set(xscale="log", xlabel=f"{x} compression", title=f"{network}: {label}")
        in_words(axes.xaxis, "{:,.0f}x".format)
        if key == "effective":
            axes.set(yscale="log")
            axes.axline((10, 10), (100, 100), color=QUIET, linestyle=":")
            in_words(axes.yaxis, "{:,.0f}x".format)
        else:
            in_words(axes.yaxis, "{:.0%}".format)
        end_labels(axes, ends)
    figure.savefig(experiment.out_folder() / name)


def _means(rows, x, y):
    """By compression, over the seeds: geometric mean of `x`; mean and range of `y`."""
    points = []
    for direct in sorted({row["direct"] for row in rows}):
        some = [r for r in rows if r["direct"] == direct and r.get(y) and r[x]]
        if some:
            values = [r[y] for r in some]
            where = np.exp(np.mean([np.log(r[x]) for r in some]))
            points.append((where, np.mean(values), min(values), max(values)))
    return zip(*points, strict=True) if points else ([], [], [], [])


def _print(rows):
    """A Markdown table: what became of each direct compression, over the seeds."""
    key = "accuracy" if any("accuracy" in row for row in rows) else "effective"
    directs = sorted({row["direct"] for row in rows})
    print(f"\n| {key} | " + " | ".join(f"{d:,.0f}x" for d in directs) + " |")
    print("|---" * (len(directs) + 1) + "|")
    for network, method in dict.fromkeys((r["network"], r["method"]) for r in rows):
        cells = []
        for direct in directs:
            found = [
                row.get(key)
                for row in rows
                if (row["network"], row["method"], row["direct"])
                == (network, method, direct)
            ]
            values = [v for v in found if v]
            lost = len(found) - len(values)
            text = "" if not values else f"{np.mean(values):,.0f}x"
            if values and key == "accuracy":
                text = f"{100 * np.mean(values):.2f}% ± {100 * np.std(values):.2f}"
            cells.append(text + (f" ({lost} cut off)" if lost else ""))
        print(f"| {network}, {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    experiment.main(run)
