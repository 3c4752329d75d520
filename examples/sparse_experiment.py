"""What the binaries share that make a dense network sparse: flags, steps and report."""

import experiment
import keras
from absl import flags

import scl_keras
from scl_keras.report.plotting import plot_training

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
flags.DEFINE_float(
    "compression", 50, "Masked connections over those kept.", lower_bound=1
)
flags.DEFINE_enum(
    "of",
    None,
    ["connections", "macs"],
    "What --compression counts, by default what --cost says.",
)
flags.DEFINE_integer(
    "by_epoch", None, "Epoch at which it is reached; default: two thirds of --epochs."
)
flags.DEFINE_float(
    "connection_cost",
    None,
    "Learn with this fixed cost instead of a target; masks are frozen at --by_epoch.",
)
flags.DEFINE_enum(
    "cost", None, ["connections", "macs"], "What costs, by default as --runtime wants."
)
flags.DEFINE_bool("export", True, "Write the TFLite file.")


def run(make_sparse, name, file, compacts=False):
    """Trains dense and sparse, exports, and reports.

    Args:
        make_sparse: Function of the dense model, training data, test data and number of
            epochs, to the trained sparse model and its `History`.
        name: What the run is called.
        file: Name of the file for the sparse network.
        compacts: Whether to save the smaller network without what is cut, too.
    """
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
    model, history = make_sparse(dense, train, test, epochs)
    table = scl_keras.summary(model)
    accuracy = experiment.accuracy(model, test)
    masks = scl_keras.find_masks(model)
    kept, size = sum(int(m.count()) for m in masks), sum(m.size for m in masks)

    model.save(folder / file)
    # A copy, which isn't compiled: its file goes without the optimizer.
    scl_keras.strip_masks(model, copy=True).save(folder / "stripped.keras")
    plot_training(model, history).savefig(folder / "training.png", dpi=100)
    results = {
        "dense_accuracy": dense_accuracy,
        "accuracy": accuracy,
        "masked": {"kept": kept, "connections": size, "compression": size / kept},
        "summary": table.as_dict(),
        "history": history.history,
    }
    line = (
        f"{name}: accuracy {dense_accuracy:.2%} dense, {accuracy:.2%} sparse; "
        f"{kept:,} of {size:,} connections kept ({size / kept:.1f}x)"
    )
    if compacts:
        smaller = scl_keras.compact(model)
        smaller.save(folder / "compacted.keras")
        compaction = scl_keras.compaction_report(model, smaller)
        print(compaction)
        results["compaction"] = compaction.as_dict()
        line += (
            f"; {compaction.parameters_before:,} -> {compaction.parameters_after:,} "
            f"parameters, {compaction.macs_before:,} -> {compaction.macs_after:,} MACs"
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


def cost_and_callbacks(epochs):
    """By the flags: arguments for `compile`, and callbacks that steer the masks."""
    by_epoch = None if FLAGS.smoke else FLAGS.by_epoch
    if FLAGS.connection_cost is None:
        target = scl_keras.TargetSparsity(
            compression=FLAGS.compression, by_epoch=by_epoch, of=FLAGS.of
        )
        return {"cost": FLAGS.cost}, [target]
    arguments = {"cost": FLAGS.cost, "connection_cost": FLAGS.connection_cost}
    return arguments, [scl_keras.FreezeMasks(by_epoch or round(epochs * 2 / 3))]
