r"""Times effective masks against a dense forward and backward pass.

    python examples/benchmarks/connectivity.py

For VGG-16 and ResNet-18 on images of 32 x 32, with random masks: finding all effective
connections, forwards and backwards through the whole graph, as a ratio to the gradient
of the dense network for one image, both as a plain call ("eager") and as a compiled
function ("graph"). They take turns; the figures are medians. Each network has a process
of its own, and memory is how much its peak grew over that of the bare model. Then
`prune(..., effective=True)` takes VGG-16 to --compression by each of --method. Prints
two Markdown tables, and writes the figures to --out as JSON.
"""

import functools
import multiprocessing
import pathlib
import sys
import time
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import numpy as np
import tensorflow as tf
from absl import app, flags
from measuring import peak_bytes
from records import write_json

import scl_keras
from scl_keras import ConnectionGraph
from scl_keras.architectures.resnet import resnet
from scl_keras.architectures.vgg import vgg
from scl_keras.pruning import prune

FLAGS = flags.FLAGS
flags.DEFINE_integer("turns", 10, "Turns of each variant.", lower_bound=1)
flags.DEFINE_float("density", 0.1, "Share of connections kept.", 0, 1)
flags.DEFINE_list("method", ["random", "magnitude", "lamp"], "Methods of pruning.")
flags.DEFINE_float("compression", 1000, "Effective compression that is asked for.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/benchmark_connectivity.json", "File to write to.")

MEBIBYTE = 2**20
COLUMNS = ("connections", "effective ms", "eager", "graph", "trace ms", "memory MiB")

NETWORKS = {
    "VGG-16": functools.partial(vgg, depth=16),
    "ResNet-18": functools.partial(resnet, depth=18, stages=4),
}
WIDTHS = {"VGG-16": 1.0, "ResNet-18": 4.0}


def gradient_of(model):
    """A function that does one dense forward and backward pass."""
    x = tf.random.normal((1, 32, 32, 3), seed=0)

    def gradient():
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(model(x, training=True))
        return tape.gradient(y, model.trainable_variables)

    return gradient


def measure(name, scale, density, turns):
    """Times one network, at a share of its width: a dict."""
    model = NETWORKS[name]((32, 32, 3), 10, width=scale * WIDTHS[name])
    start = time.perf_counter()
    graph = ConnectionGraph(model)
    trace = time.perf_counter() - start
    rng = np.random.default_rng(0)
    kept = [rng.random(kernel.shape) < density for kernel in graph.kernels]
    before = peak_bytes()
    graph.effective(kept)
    memory = (peak_bytes() - before) / MEBIBYTE
    gradient = gradient_of(model)
    runs = {
        "effective": lambda: graph.effective(kept),
        "eager": gradient,
        "graph": tf.function(gradient),
    }
    times = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "connections": sum(values.size for values in kept),
        "effective ms": 1000 * medians["effective"],
        "eager": medians["effective"] / medians["eager"],
        "graph": medians["effective"] / medians["graph"],
        "trace ms": 1000 * trace,
        "memory MiB": memory,
    }


def measure_pruning(scale, method, compression):
    """Prunes VGG-16 to an effective compression: what it took, a dict."""
    model = NETWORKS["VGG-16"]((32, 32, 3), 10, width=scale * WIDTHS["VGG-16"])
    before, start = peak_bytes(), time.perf_counter()
    pruned = prune(model, method, compression=compression, effective=True, verbose=0)
    seconds = time.perf_counter() - start
    memory = (peak_bytes() - before) / MEBIBYTE
    masks = scl_keras.effective_masks(pruned).values()
    size = sum(mask.size for mask in masks)
    return {
        "seconds": seconds,
        "memory MiB": memory,
        "asked for": round(size / compression),
        "effective": int(sum(mask.sum() for mask in masks)),
        "kept": sum(int(mask.count()) for mask in scl_keras.find_masks(pruned)),
    }


def in_own_process(function, *arguments):
    """What a function returns, called in a new process."""
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def print_table(head, columns, rows):
    """Prints a Markdown table of a dict of dicts."""
    print(f"| {head} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, figures in rows.items():
        cells = [_text(figures[column]) for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")


def _text(figure):
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:,.4g}"


def main(argv):
    """Times all networks, then all methods."""
    del argv
    scale, turns, compression = 1.0, FLAGS.turns, FLAGS.compression
    if FLAGS.smoke:
        scale, turns, compression = 1 / 16, 1, 10.0
    networks = {
        name: in_own_process(measure, name, scale, FLAGS.density, turns)
        for name in NETWORKS
    }
    print_table("network", COLUMNS, networks)
    pruning = {
        method: in_own_process(measure_pruning, scale, method, compression)
        for method in FLAGS.method[: 1 if FLAGS.smoke else None]
    }
    columns = list(next(iter(pruning.values()), {}))
    print_table(f"VGG-16, effective {compression:,.0f}x", columns, pruning)
    results = {"density": FLAGS.density, **networks, "pruning": pruning}
    write_json(FLAGS.out, results)


if __name__ == "__main__":
    app.run(main)
