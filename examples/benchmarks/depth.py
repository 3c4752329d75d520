r"""Times how work on a model grows with its number of layers.

    python examples/benchmarks/depth.py

Chains of --layers Dense layers, 16 units each, half of the connections kept: the
time of `sparsify`, `summary`, `effective_masks` and `compact` (of the stripped model),
in milliseconds a layer. What is linear has the same figure in each row. Calls of the
chains take turns; the figures are medians. Prints a Markdown table, and writes the
figures to --out as JSON.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import keras
import numpy as np
from absl import app, flags
from records import write_json
from tqdm import tqdm

import scl_keras

FLAGS = flags.FLAGS
flags.DEFINE_list("layers", ["10", "40", "160", "640"], "Lengths of the chains.")
flags.DEFINE_integer("turns", 3, "Turns of each chain.", lower_bound=1)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/benchmark_depth.json", "File to write to.")

UNITS = 16


def chain(length):
    """A new network of Dense layers."""
    rest = [keras.layers.Dense(UNITS, activation="relu") for _ in range(length)]
    return keras.Sequential([keras.Input((UNITS,)), *rest])


def measure(length):
    """Seconds that each step of the work takes, by its name."""
    rng = np.random.default_rng(0)
    model, seconds = chain(length), {}

    def timed(name, work):
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    timed("sparsify", lambda: scl_keras.sparsify(model, verbose=0))
    for mask in scl_keras.find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < 0.5)
    timed("summary", lambda: scl_keras.summary(model, print_fn=None))
    timed("effective_masks", lambda: scl_keras.effective_masks(model))
    stock = scl_keras.strip_masks(model)
    timed("compact", lambda: scl_keras.compact(stock))
    return seconds


def main(argv):
    """Times all chains."""
    del argv
    lengths, turns = [int(length) for length in FLAGS.layers], FLAGS.turns
    if FLAGS.smoke:
        lengths, turns = [2, 4], 1
    rounds = [length for _ in range(turns + 1) for length in lengths]
    taken = {length: [] for length in lengths}
    for length in tqdm(rounds, "depth", leave=False):
        taken[length].append(measure(length))
    medians = {  # but for the first turn, which warms up
        length: {
            name: float(np.median([seconds[name] for seconds in measured[1:]]))
            for name in measured[0]
        }
        for length, measured in taken.items()
    }
    names = list(medians[lengths[0]])
    print("| layers | " + " | ".join(f"`{name}`" for name in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for length, seconds in medians.items():
        cells = [f"{1000 * seconds[name] / length:.2f}" for name in names]
        print(f"| {length} | " + " | ".join(cells) + " |")
    write_json(FLAGS.out, medians)


if __name__ == "__main__":
    app.run(main)
