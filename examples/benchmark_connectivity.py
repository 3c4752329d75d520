r"""Times effective masks against a dense forward and backward pass.

    python examples/benchmark_connectivity.py

For VGG-16 and ResNet-18 on images of 32 x 32, with random masks: finding all effective
connections, forwards and backwards through the whole graph, as a ratio to the gradient
of the dense network for one image, both as a plain call ("eager") and as a compiled
function ("graph"). They take turns; the figures are medians. Each network has a process
of its own, and memory is how much its peak grew over that of the bare model. Prints a
Markdown table, and writes the figures to --out as JSON.
"""

import functools
import json
import multiprocessing
import pathlib
import resource
import time
from concurrent import futures

import numpy as np
import tensorflow as tf
from absl import app, flags

from scl_keras import ConnectionGraph
from scl_keras.architectures.resnet import resnet
from scl_keras.architectures.vgg import vgg

FLAGS = flags.FLAGS
flags.DEFINE_integer("turns", 10, "Turns of each variant.", lower_bound=1)
flags.DEFINE_float("density", 0.1, "Share of connections kept.", 0, 1)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/benchmark_connectivity.json", "File to write to.")

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
    before = peak_mebibytes()
    graph.effective(kept)
    memory = peak_mebibytes() - before
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


def peak_mebibytes():
    """Most memory that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv):
    """Times all networks."""
    del argv
    results, scale = {}, 1 / 16 if FLAGS.smoke else 1.0
    for name in NETWORKS:
        with futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn")
        ) as pool:
            job = pool.submit(measure, name, scale, FLAGS.density, FLAGS.turns)
            results[name] = job.result()
    print("| network | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, figures in results.items():
        cells = [f"{figures[column]:,.4g}" for column in COLUMNS[1:]]
        print(f"| {name} | {figures['connections']:,} | " + " | ".join(cells) + " |")
    out = pathlib.Path(FLAGS.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"density": FLAGS.density, **results}, indent=1))


if __name__ == "__main__":
    app.run(main)
