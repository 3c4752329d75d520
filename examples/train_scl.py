r"""Learns which connections of a network matter, and ships the rest as a TFLite file.

    python examples/train_scl.py
    python examples/train_scl.py --dataset=mnist --architecture=lenet_5 --epochs=60 \
        --compression=100

Trains the dense network (--dense_epochs), masks it, learns masks and weights together
until the sparsity asked for is reached, fine-tunes what is left, and exports. Prints a
table of the layers, and writes to the folder --out:

    dense.keras      the dense network
    scl.keras        the sparse network with its masks, to train on
    stripped.keras   the same as a stock Keras model with zeros in its kernels
    model.tflite     the same as a sparse-encoded TFLite file
    training.png     densities, accuracy, and what is left
    results.json     all figures, with seed, flags and versions
"""

import experiment
import sparse_experiment
from absl import flags

import scl_keras

FLAGS = flags.FLAGS
flags.DEFINE_enum("ste", "identity", ["identity", "leaky_relu", "softplus"], "Proxy.")
flags.DEFINE_enum(
    "normalization",
    "network",
    ["network", "layer", "feature", "none"],
    "Over what mask gradients are normalized.",
)


def run():
    """Learns the masks, and reports."""
    name = f"{FLAGS.dataset} {FLAGS.architecture}"
    sparse_experiment.run(learn_masks, name, "scl.keras")


def learn_masks(dense, train, test, epochs):
    """Learns masks and weights, then the weights alone: the model and `History`."""
    model = scl_keras.sparsify(dense, ste=FLAGS.ste)
    arguments, callbacks = sparse_experiment.cost_and_callbacks(epochs)
    normalization = None if FLAGS.normalization == "none" else FLAGS.normalization
    arguments["normalization"] = normalization
    experiment.compile_model(model, len(train[0]), epochs, **arguments)
    callbacks.append(scl_keras.MaskLogger())
    return model, experiment.fit(model, train, test, epochs, callbacks)


if __name__ == "__main__":
    experiment.main(run)
