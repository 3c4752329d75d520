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
import keras
from absl import flags

import scl_keras
from scl_keras.plotting import plot_training

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 150, "Epochs with masks.", lower_bound=2)
flags.DEFINE_integer(
    "dense_epochs", 20, "Epochs of the dense network before.", lower_bound=1
)
flags.DEFINE_enum(
    "start",
    "dense",
    ["dense", "scratch"],
    "Mask the trained dense network, or a new one with the same first weights.",
)
flags.DEFINE_float("compression", 50, "Connections over connections kept.")
flags.DEFINE_integer(
    "by_epoch", None, "Epoch at which it is reached; default: two thirds of --epochs."
)
flags.DEFINE_float(
    "connection_cost",
    None,
    "Learn with this fixed cost instead of a target; masks are frozen at --by_epoch.",
)
flags.DEFINE_enum("cost", "connections", ["connections", "flops"], "What costs.")
flags.DEFINE_enum("ste", "identity", ["identity", "leaky_relu", "softplus"], "Proxy.")
flags.DEFINE_enum(
    "normalization",
    "network",
    ["network", "layer", "feature", "none"],
    "Over what mask gradients are normalized.",
)
flags.DEFINE_bool("export", True, "Write the TFLite file.")


def run():
    """Trains dense and sparse, exports, and reports."""
    data, train, test = experiment.load_data()
    folder = experiment.out_folder()
    dense_epochs, epochs = (2, 6) if FLAGS.smoke else (FLAGS.dense_epochs, FLAGS.epochs)

    keras.utils.set_random_seed(FLAGS.seed)
    dense = experiment.build(data)
    first_weights = dense.get_weights()
    print(f"Dense network, {dense_epochs} epochs:")
    experiment.compile_model(dense, len(train[0]), dense_epochs)
    experiment.fit(dense, train, test, dense_epochs)
    dense.save(folder / "dense.keras")
    dense_accuracy = experiment.accuracy(dense, test)

    if FLAGS.start == "scratch":
        dense.set_weights(first_weights)
    print(f"Sparse network, {epochs} epochs:")
    model = scl_keras.sparsify(dense, ste=FLAGS.ste)
    history = train_masks(model, train, test, epochs)
    table = scl_keras.summary(model)
    accuracy = experiment.accuracy(model, test)

    model.save(folder / "scl.keras")
    scl_keras.strip_masks(model).save(folder / "stripped.keras")
    plot_training(model, history).savefig(folder / "training.png", dpi=100)
    results = {
        "dense_accuracy": dense_accuracy,
        "accuracy": accuracy,
        "summary": table.as_dict(),
        "history": history.history,
    }
    line = (
        f"{FLAGS.dataset} {FLAGS.architecture}: accuracy {dense_accuracy:.2%} dense, "
        f"{accuracy:.2%} sparse; {table.kept:,} of {table.connections:,} connections "
        f"kept ({table.compression:.1f}x)"
    )
    if FLAGS.export:
        report = scl_keras.export_tflite(
            model, folder / "model.tflite", samples=test[0][:256]
        )
        print(report)
        results["export"] = report.as_dict()
        line += f"; TFLite {report.bytes_dense:,} -> {report.bytes_written:,} bytes"
    experiment.write_results(folder / "results.json", results)
    print(f"{line}. Saved in {folder}/")


def train_masks(model, train, test, epochs):
    """Learns masks and weights, then the weights alone; returns the `History`."""
    normalization = None if FLAGS.normalization == "none" else FLAGS.normalization
    arguments = {"cost": FLAGS.cost, "normalization": normalization}
    by_epoch = None if FLAGS.smoke else FLAGS.by_epoch
    if FLAGS.connection_cost is None:
        callbacks = [
            scl_keras.TargetSparsity(compression=FLAGS.compression, by_epoch=by_epoch)
        ]
    else:
        arguments["connection_cost"] = FLAGS.connection_cost
        callbacks = [scl_keras.FreezeMasks(by_epoch or round(epochs * 2 / 3))]
    experiment.compile_model(model, len(train[0]), epochs, **arguments)
    callbacks.append(scl_keras.MaskLogger())
    return experiment.fit(model, train, test, epochs, callbacks)


if __name__ == "__main__":
    experiment.main(run)
