r"""Has a second network switch connections, by what it learns of the weights.

    python examples/train_switcher.py
    python examples/train_switcher.py --dataset=mnist --compression=20 --epochs=20 \
        --dense_epochs=5

Trains the dense network (--dense_epochs), wraps it in a `SwitcherModel`, trains weights
and switcher network alternately until the sparsity asked for is reached, fine-tunes
what is left, and exports. With --method=scl or --method=magnitude the same network is
made sparse in the same number of epochs by learned mask variables or by gradual
magnitude pruning (Zhu & Gupta, arXiv 1710.01878), to compare. Prints a table of the
layers, and writes to --out:

    dense.keras      the dense network
    sparse.keras     the sparse network with its masks, to train on
    stripped.keras   the same as a stock Keras model with zeros in its kernels
    model.tflite     the same as a sparse-encoded TFLite file
    training.png     densities over the epochs, accuracy, and what is left
    results.json     all figures, with seed, flags and versions
"""

import experiment
import keras
import sparse_experiment
from absl import flags

import scl_keras
from scl_keras.pruning import GradualPruning, PolynomialDecay

FLAGS = flags.FLAGS
FLAGS.set_default("epochs", 60)
FLAGS.set_default("compression", 20)
flags.DEFINE_enum("method", "switcher", ["switcher", "scl", "magnitude"], "What cuts.")
flags.DEFINE_bool("convolutions", False, "Switch all kernels, not just dense layers.")
flags.DEFINE_integer("task_steps", 4, "Steps in a row of the weights.", lower_bound=1)
flags.DEFINE_integer(
    "switcher_steps", 1, "Steps in a row of the switcher.", lower_bound=1
)
flags.DEFINE_bool("turns_by_epoch", False, "Count turns in epochs, not in steps.")
flags.DEFINE_list("units", ["16"], "Units of the switcher's hidden layers.")
flags.DEFINE_float("switcher_learning_rate", 1e-3, "Adam's rate for the switcher.")


def run():
    """Makes the network sparse, and reports."""
    name = f"{FLAGS.dataset} {FLAGS.architecture}, {FLAGS.method}"
    sparse_experiment.run(train_sparse, name, "sparse.keras")


def train_sparse(dense, train, test, epochs):
    """Makes a network sparse by the method of the flags: the model and `History`."""
    layers = None if FLAGS.convolutions else keras.layers.Dense
    arguments, callbacks = sparse_experiment.cost_and_callbacks(epochs)
    if FLAGS.method == "scl":
        model = scl_keras.sparsify(dense, layers)
    elif FLAGS.method == "magnitude":
        model = scl_keras.sparsify(dense, layers, ste=None)
        arguments, callbacks = {}, [gradual_pruning(len(train[0]), epochs)]
    else:
        # None stands for whatever can be masked.
        model = scl_keras.SwitcherModel(dense, layers=layers or (lambda layer: True))
        arguments |= switcher_arguments()
        if FLAGS.turns_by_epoch:
            turns = scl_keras.TurnsByEpoch(FLAGS.task_steps, FLAGS.switcher_steps)
            callbacks.append(turns)
    experiment.compile_model(model, len(train[0]), epochs, **arguments)
    callbacks.append(scl_keras.MaskLogger())
    return model, experiment.fit(model, train, test, epochs, callbacks)


def gradual_pruning(samples, epochs):
    """Magnitude pruning to the compression of the flags, as fast as the others."""
    by_epoch = None if FLAGS.smoke else FLAGS.by_epoch
    last_epoch = by_epoch or max(1, round(epochs * 2 / 3))
    steps = last_epoch * -(-samples // FLAGS.batch_size)
    updates = min(100, steps)
    every = steps // updates
    schedule = PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=1 - 1 / FLAGS.compression,
        begin_step=0,
        end_step=updates * every,
        frequency=every,
    )
    return GradualPruning(schedule)


def switcher_arguments():
    """What `SwitcherModel.compile` takes."""
    return {
        "switcher": scl_keras.switcher_network([int(n) for n in FLAGS.units]),
        "switcher_optimizer": keras.optimizers.Adam(FLAGS.switcher_learning_rate),
        "task_steps": FLAGS.task_steps,
        "switcher_steps": FLAGS.switcher_steps,
    }


if __name__ == "__main__":
    experiment.main(run)
