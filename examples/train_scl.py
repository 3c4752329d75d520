r"""Learns which connections of a network matter, and ships the rest as a TFLite file.

    python examples/train_scl.py
    python examples/train_scl.py --dataset=mnist --architecture=lenet_5 --epochs=60 \
        --compression=100
    python examples/train_scl.py --dataset=fashion_mnist --architecture=mobilenet \
        --width=0.5 --runtime=compact --cost=macs --compression=4 --epochs=30

Trains the dense network (--dense_epochs), masks it, learns masks and weights together
until the sparsity asked for is reached, fine-tunes what is left, and exports. Prints a
table of the layers, and writes to the folder --out:

    dense.keras      the dense network
    scl.keras        the sparse network with its masks, to train on
    stripped.keras   the same as a stock Keras model with zeros in its kernels
    model.tflite     the same as a sparse-encoded TFLite file
    training.png     densities, accuracy, and what is left
    results.json     all figures, with seed, flags and versions

With --runtime=compact or tflite-dense, or --granularity=channel, masks switch channels.
What is cut can then be removed, so that the network gets faster everywhere:
model.tflite is made so if that is best, and written is also

    compacted.keras  the smaller network, a stock Keras model
"""

import experiment
import sparse_experiment
from absl import flags

import scl_keras

FLAGS = flags.FLAGS
GRANULARITIES = {
    "connection": "connection",
    "block": scl_keras.Block(4),
    "channel": "channel",
    "2:4": scl_keras.NM(2, 4),
}
flags.DEFINE_enum("ste", "identity", ["identity", "leaky_relu", "softplus"], "Proxy.")
flags.DEFINE_enum(
    "normalization",
    "network",
    ["network", "layer", "feature", "none"],
    "Over what mask gradients are normalized.",
)
flags.DEFINE_enum(
    "runtime",
    None,
    ["compact", "tflite-dense", "xnnpack", "size"],
    "What masks switch is chosen for it; by default single connections.",
)
flags.DEFINE_enum(
    "granularity",
    None,
    list(GRANULARITIES),
    "Without --runtime: what each mask variable switches; blocks are of four inputs, "
    "and 2:4 keeps at most two of every four.",
)
flags.DEFINE_enum(
    "mask_dtype", "float32", ["float32", "bfloat16"], "Dtype of the mask variables."
)
flags.register_multi_flags_validator(
    ["runtime", "granularity"],
    lambda values: None in values.values(),
    "--runtime chooses the granularity: give one of the two.",
)


def run():
    """Learns the masks, and reports."""
    name = f"{FLAGS.dataset} {FLAGS.architecture}"
    channels = FLAGS.runtime in ("compact", "tflite-dense")
    compacts = channels or FLAGS.granularity == "channel"
    sparse_experiment.run(learn_masks, name, "scl.keras", compacts)


def learn_masks(dense, train, test, epochs):
    """Learns masks and weights, then the weights alone: the model and `History`."""
    granularity = GRANULARITIES.get(FLAGS.granularity)
    model = scl_keras.sparsify(
        dense,
        ste=FLAGS.ste,
        runtime=FLAGS.runtime,
        granularity=granularity,
        mask_dtype=FLAGS.mask_dtype,
    )
    arguments, callbacks = sparse_experiment.cost_and_callbacks(epochs)
    normalization = None if FLAGS.normalization == "none" else FLAGS.normalization
    arguments["normalization"] = normalization
    experiment.compile_model(model, len(train[0]), epochs, **arguments)
    callbacks.append(scl_keras.MaskLogger())
    return model, experiment.fit(model, train, test, epochs, callbacks)


if __name__ == "__main__":
    experiment.main(run)
