r"""Times one training step: dense Keras, SCL, and TFMOT's magnitude pruning.

    python examples/benchmarks/training.py
    KERAS_BACKEND=jax python examples/benchmarks/training.py

All variants of a network are made in one process and take turns, a few steps each, in
an order that changes; the figures are medians over the turns, and ratios of medians to
dense Keras. "scl + target" has `TargetSparsity` at work, "scl frozen" its masks frozen,
so that `fit` leaves out of the step what moves them. On JAX and PyTorch steps are those
of `fit`, and TFMOT isn't compared with, so that TensorFlow need not be installed.
Dense is `keras.Model` with the same layers, batch and Adam. Prints a Markdown table,
and writes the figures to --out as JSON.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import keras
import numpy as np
from absl import app, flags
from measuring import alternate, variant
from records import write_json
from tqdm import tqdm

import scl_keras
from scl_keras.architectures import build_architecture
from scl_keras.training.stillness import StillMasks

FLAGS = flags.FLAGS
SHAPES = {
    "lenet_300_100": (28, 28, 1),
    "lenet_5": (28, 28, 1),
    "resnet": (32, 32, 3),
}
flags.DEFINE_multi_enum("network", list(SHAPES), list(SHAPES), "Networks to time.")
flags.DEFINE_multi_enum("mode", ["graph", "jit"], ["graph", "jit"], "How to run.")
flags.DEFINE_integer("batch_size", 128, "Samples a step.", lower_bound=1)
flags.DEFINE_integer("turns", 40, "Turns of each variant.", lower_bound=1)
flags.DEFINE_float("seconds", 0.3, "About how long a turn takes.", lower_bound=0)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/benchmark_training.json", "File to write to.")


def compiled(kind, model, jit, **arguments):
    """`model`, compiled for classification with Adam of `kind`'s Keras."""
    loss = kind.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kind.optimizers.Adam(1e-3), loss, jit_compile=jit, **arguments)
    return model


def variants(network, jit):
    """The compiled models by name, with the callbacks that `fit` would call."""
    model = build_architecture(network, SHAPES[network], 10)
    scl, steered, frozen = (
        compiled(keras, scl_keras.sparsify(model, copy=True), jit, connection_cost=0.1)
        for _ in range(3)
    )
    scl_keras.freeze_masks(frozen)
    yield "dense", compiled(keras, keras.models.clone_model(model), jit), None
    yield "scl", scl, None
    yield "scl + target", steered, scl_keras.TargetSparsity(0.98)
    on_tensorflow = keras.backend.backend() == "tensorflow"
    # As `fit` has it, which is called elsewhere.
    yield "scl frozen", frozen, StillMasks() if on_tensorflow else None
    if on_tensorflow:
        yield from of_tfmot(model, jit)


def of_tfmot(model, jit):
    """Dense `tf_keras`, and TFMOT's pruning of it."""
    import tf_keras
    from tensorflow_model_optimization.sparsity import keras as tfmot
    from tfmot_baseline import legacy_twin, prune_low_magnitude

    yield "tf_keras", compiled(tf_keras, legacy_twin(model), jit), None
    pruned = prune_low_magnitude(legacy_twin(model), steps=2000, sparsity=0.98)
    yield "tfmot", compiled(tf_keras, pruned, jit), tfmot.UpdatePruningStep()


def measure(network, jit):
    """Median seconds a step of each variant, and why the others failed, by name."""
    rng = np.random.default_rng(0)
    shape = (FLAGS.batch_size, *SHAPES[network])
    batch = rng.random(shape, "float32"), rng.integers(0, 10, shape[0])
    ready, failed = [], {}
    for name, model, callback in variants(network, jit):
        try:
            ready_one = variant(name, model, callback, batch)
            ready_one.run(3)
        except Exception as error:  # a variant that can't do it is a result, too
            if name == "dense":
                raise
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
            continue
        ready.append(ready_one)
    seconds = 0.01 if FLAGS.smoke else FLAGS.seconds
    steps = max(1, round(seconds / (ready[0].run(5) / 5)))
    title = f"{network}, {'jit' if jit else 'graph'}"
    turns = 2 if FLAGS.smoke else FLAGS.turns

    def bar(rounds):
        return tqdm(rounds, title, leave=False)

    return alternate(ready, turns, steps, bar), failed


def main(argv):
    """Measures all, prints the table, writes the file."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    results = []
    for network in FLAGS.network[: 1 if FLAGS.smoke else None]:
        for mode in modes():
            keras.utils.set_random_seed(0)
            medians, failed = measure(network, mode == "jit")
            results.append(
                {"network": network, "mode": mode, "seconds": medians, "failed": failed}
            )
            keras.backend.clear_session()
    write_json(FLAGS.out, results)
    print("| network | mode | dense ms | scl | scl + target | scl frozen | tfmot |")
    print("|---|---|---|---|---|---|---|")
    for r in results:
        s = r["seconds"]
        row = [r["network"], r["mode"], f"{1000 * s['dense']:.2f}"]
        row += [ratio(s, name) for name in ("scl", "scl + target", "scl frozen")]
        row += [ratio(s, "tfmot", "tf_keras")]
        print("| " + " | ".join(row) + " |")
    for r in results:
        for name, reason in r["failed"].items():
            print(f"{r['network']}, {r['mode']}: {name} failed: {reason}")


def modes():
    """Those of the flags that differ: JAX always compiles, PyTorch doesn't here."""
    only = {"jax": ["jit"], "torch": ["graph"]}
    return only.get(keras.backend.backend(), FLAGS.mode)


def ratio(seconds, name, base="dense"):
    """How much longer `name` takes than `base`, as text."""
    if name not in seconds or base not in seconds:
        return "-"
    return f"{seconds[name] / seconds[base]:.3f}"


if __name__ == "__main__":
    app.run(main)
