r"""Times effective masks and pruning by them on networks that people use.

    python examples/benchmarks/connectivity.py

For each of --networks of `keras.applications`, with random masks: finding all effective
connections, forwards and backwards through the whole graph, as a ratio to the gradient
of the dense network for one image, both as a plain call ("eager") and as a compiled
function ("graph"). They take turns; the figures are medians. Then `prune(...,
effective=True)` to each of --compressions by each of --methods, as a ratio to finding
the effective connections once ("passes"), with the time that the method's own scores
took of it. Each figure has a process of its own, and memory is how much its peak grew
over that of the bare model. Prints two Markdown tables, and writes the figures to --out
as JSON.
"""

import multiprocessing
import pathlib
import sys
import time
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from measuring import peak_bytes
from records import write_json

from scl_keras import ConnectionGraph, find_masks, sparsify
from scl_keras.pruning import PrunableNetwork, get_method, prune

FLAGS = flags.FLAGS
flags.DEFINE_integer("turns", 10, "Turns of each variant.", lower_bound=1)
flags.DEFINE_float("density", 0.1, "Share of connections kept.", 0, 1)
flags.DEFINE_list(
    "networks",
    ["VGG16", "ResNet101", "InceptionV3", "NASNetMobile", "ConvNeXtTiny"],
    "Networks of keras.applications.",
)
flags.DEFINE_list("methods", ["magnitude", "lamp"], "Methods of pruning.")
flags.DEFINE_list("compressions", ["10"], "Effective compressions that are asked for.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/benchmark_connectivity.json", "File to write to.")

MEBIBYTE = 2**20
COLUMNS = ("connections", "effective s", "eager", "graph", "trace s", "memory MiB")


def network(name, size):
    """A network with random weights, for images of a size, or of its own."""
    shape = None if size is None else (size, size, 3)
    return getattr(keras.applications, name)(weights=None, input_shape=shape)


def gradient_of(model):
    """A function that does one dense forward and backward pass."""
    x = tf.random.normal((1, *model.input_shape[1:]), seed=0)

    def gradient():
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(model(x, training=True))
        return tape.gradient(y, model.trainable_variables)

    return gradient


def measure(name, size, density, turns):
    """Times one network: a dict."""
    model = network(name, size)
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
        "effective s": medians["effective"],
        "eager": medians["effective"] / medians["eager"],
        "graph": medians["effective"] / medians["graph"],
        "trace s": trace,
        "memory MiB": memory,
    }


def measure_pruning(name, size, method, compression):
    """Prunes a network to an effective compression: what it took, a dict."""
    model = network(name, size)
    graph = ConnectionGraph(model)
    passes = []
    for _ in range(4):
        start = time.perf_counter()
        graph.effective()
        passes.append(time.perf_counter() - start)
    one_pass = float(np.median(passes[1:]))
    masked = PrunableNetwork(sparsify(network(name, size), ste=None))
    start = time.perf_counter()
    get_method(method).scores(masked)
    scoring = time.perf_counter() - start
    del masked
    before, start = peak_bytes(), time.perf_counter()
    pruned = prune(model, method, compression=compression, effective=True, verbose=0)
    seconds = time.perf_counter() - start
    memory = (peak_bytes() - before) / MEBIBYTE
    total = sum(kernel.mask.size for kernel in PrunableNetwork(pruned).kernels)
    return {
        "seconds": seconds,
        "passes": seconds / one_pass,
        "scores": scoring / one_pass,
        "memory MiB": memory,
        "asked for": round(total / compression),
        "effective": sum(int(mask.count()) for mask in find_masks(pruned)),
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
    names, methods, turns, size = FLAGS.networks, FLAGS.methods, FLAGS.turns, None
    if FLAGS.smoke:
        names, methods, turns, size = ["MobileNet"], methods[:1], 1, 32
    networks = {
        name: in_own_process(measure, name, size, FLAGS.density, turns)
        for name in names
    }
    print_table("network", COLUMNS, networks)
    pruning = {
        f"{name}, {method}, {compression}x": in_own_process(
            measure_pruning, name, size, method, float(compression)
        )
        for name in names
        for method in methods
        for compression in FLAGS.compressions
    }
    columns = list(next(iter(pruning.values()), {}))
    print_table("pruned", columns, pruning)
    results = {"density": FLAGS.density, **networks, "pruning": pruning}
    write_json(FLAGS.out, results)


if __name__ == "__main__":
    app.run(main)
