r"""Has a second network switch connections, by what it learns of the weights.

    python examples/train_switcher.py
    python examples/train_switcher.py --dataset=mnist --compression=20 --epochs=20 \
        --dense_epochs=5

Trains the dense network (--dense_epochs), wraps it in a `SwitcherModel`, trains weights
and switcher network alternately until the sparsity asked for is reached, fine-tunes
what is left, and exports. With --method=scl or --method=magnitude the same network is
made sparse in the same number of epochs by learned mask variables or by the magnitude
of its weights, to compare. Prints a table of the layers, and writes to --out:

    dense.keras      the dense network
    sparse.keras     the sparse network with its masks, to train on
    stripped.keras   the same as a stock Keras model with zeros in its kernels
    model.tflite     the same as a sparse-encoded TFLite file
    training.png     densities over the epochs, accuracy, and what is left
    results.json     all figures, with seed, flags and versions
"""

import experiment
import keras
from absl import flags

import scl_keras
from scl_keras.plotting import plot_training

FLAGS = flags.FLAGS
flags.DEFINE_enum("method", "switcher", ["switcher", "scl", "magnitude"], "What cuts.")
flags.DEFINE_integer("epochs", 60, "Epochs with masks.", lower_bound=2)
flags.DEFINE_integer(
    "dense_epochs", 20, "Epochs of the dense network before.", lower_bound=1
)
flags.DEFINE_enum(
    "start",
    "dense",
    ["dense", "scratch"],
    "Mask the trained dense network, or a new one with the same first weights.",
)
flags.DEFINE_float("compression", 20, "Switched connections over those kept.")
flags.DEFINE_integer(
    "by_epoch", None, "Epoch at which it is reached; default: two thirds of --epochs."
)
flags.DEFINE_float(
    "connection_cost",
    None,
    "Learn with this fixed cost instead of a target; masks are frozen at --by_epoch.",
)
flags.DEFINE_enum("cost", "connections", ["connections", "flops"], "What costs.")
flags.DEFINE_bool("convolutions", False, "Switch all kernels, not just dense layers.")
flags.DEFINE_integer("task_steps", 4, "Steps in a row of the weights.", lower_bound=1)
flags.DEFINE_integer(
    "switcher_steps", 1, "Steps in a row of the switcher.", lower_bound=1
)
flags.DEFINE_bool("turns_by_epoch", False, "Count turns in epochs, not in steps.")
flags.DEFINE_list("units", ["16"], "Units of the switcher's hidden layers.")
flags.DEFINE_float("switcher_learning_rate", 1e-3, "Adam's rate for the switcher.")
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
    print(f"Sparse network ({FLAGS.method}), {epochs} epochs:")
    model, history = train_sparse(dense, train, test, epochs)
    accuracy = experiment.accuracy(model, test)
    masks = scl_keras.find_masks(model)
    kept, size = sum(int(m.count()) for m in masks), sum(m.size for m in masks)

    print(scl_keras.summary(model))
    model.save(folder / "sparse.keras")
    scl_keras.strip_masks(model).save(folder / "stripped.keras")
    plot_training(model, history).savefig(folder / "training.png", dpi=100)
    results = {
        "dense_accuracy": dense_accuracy,
        "accuracy": accuracy,
        "switched": {"kept": kept, "connections": size, "compression": size / kept},
        "summary": scl_keras.summary(model).as_dict(),
        "history": history.history,
    }
    line = (
        f"{FLAGS.dataset} {FLAGS.architecture}, {FLAGS.method}: accuracy "
        f"{dense_accuracy:.2%} dense, {accuracy:.2%} sparse; {kept:,} of {size:,} "
        f"connections kept ({size / kept:.1f}x)"
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


def train_sparse(dense, train, test, epochs):
    """Makes a network sparse by the method of the flags: the model and `History`."""
    layers = None if FLAGS.convolutions else keras.layers.Dense
    by_epoch = (None if FLAGS.smoke else FLAGS.by_epoch) or round(epochs * 2 / 3)
    arguments = {"cost": FLAGS.cost}
    callbacks = []
    if FLAGS.connection_cost is None:
        callbacks.append(
            scl_keras.TargetSparsity(compression=FLAGS.compression, by_epoch=by_epoch)
        )
    else:
        arguments["connection_cost"] = FLAGS.connection_cost
        callbacks.append(scl_keras.FreezeMasks(by_epoch))
    if FLAGS.method == "scl":
        model = scl_keras.sparsify(dense, layers)
    else:
        model = scl_keras.SwitcherModel(
            dense,
            layers or (lambda layer: True),  # whatever can be masked
        )
        arguments |= switcher_arguments()
        if FLAGS.turns_by_epoch:
            callbacks.append(
                scl_keras.TurnsByEpoch(FLAGS.task_steps, FLAGS.switcher_steps)
            )
    experiment.compile_model(model, len(train[0]), epochs, **arguments)
    callbacks.append(scl_keras.MaskLogger())
    return model, experiment.fit(model, train, test, epochs, callbacks)


def switcher_arguments():
    """What `SwitcherModel.compile` takes."""
    # Magnitude pruning is the switcher's first opinion, never changed: a price moves
    # its threshold, and there is nothing to learn.
    learns = FLAGS.method == "switcher"
    rate = FLAGS.switcher_learning_rate
    return {
        "switcher": scl_keras.switcher_network([int(n) for n in FLAGS.units]),
        "switcher_optimizer": keras.optimizers.Adam(rate if learns else 0.0),
        "task_steps": FLAGS.task_steps,
        "switcher_steps": FLAGS.switcher_steps,
    }


if __name__ == "__main__":
    experiment.main(run)
