r"""Writes any Keras model as the smallest or fastest TFLite file that is still right.

    python examples/export_tflite.py --model=model.keras --dataset=mnist
    python examples/export_tflite.py --model=model.keras --samples=inputs.npz \
        --optimize_for=latency --dtype=int8

Makes every file that may be worth it, checks each against Keras on real inputs, times
them against each other on one thread, and writes the best. The inputs are those of
--samples, or the test images of --dataset; their labels give the accuracy of each file.
A model made by other means than scl_keras will do, too. Writes to --out:

    model.tflite   the best file
    export.png     all files by their bytes and their speed
    export.json    all figures
"""

import pathlib

import experiment
import keras
import numpy as np
from absl import flags

import scl_keras

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "A .keras file; needed but for --smoke.")
flags.DEFINE_string(
    "samples",
    None,
    "Real inputs: an .npy file, or an .npz file with an array for each of the model's "
    "inputs, by its name, and maybe class indices by the name 'labels'.",
)
flags.DEFINE_integer("limit", 512, "Samples to compare on.", lower_bound=1)
flags.DEFINE_enum(
    "optimize_for",
    "balanced",
    ["balanced", "size", "latency"],
    "What to choose by; balanced: half the bytes are worth as much as half the time.",
)
flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16", "int8"], "Coarsest precision allowed."
)
flags.DEFINE_float("tolerance", None, "Largest difference; default: by precision.")
flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "Largest share of accuracy that a coarser precision may lose; default: 0.005.",
)
flags.DEFINE_float("seconds", 4.0, "How long to time the files.", lower_bound=0)


def run():
    """Exports, and reports."""
    samples, labels, shape = load_samples()
    model = load_model(shape)
    folder = experiment.out_folder()
    report = scl_keras.export_tflite(
        model,
        folder / "model.tflite",
        samples=samples,
        labels=labels,
        max_accuracy_drop=FLAGS.max_accuracy_drop,
        optimize_for=FLAGS.optimize_for,
        dtype=FLAGS.dtype,
        tolerance=FLAGS.tolerance,
        latency_seconds=min(FLAGS.seconds, 0.2) if FLAGS.smoke else FLAGS.seconds,
    )
    print(report)
    report.plot().savefig(folder / "export.png", dpi=100)
    experiment.write_results(folder / "export.json", report.as_dict())
    speed = "" if report.latency is None else f", {report.latency.speed}"
    print(
        f"{FLAGS.model or 'smoke'}: {report.bytes_dense:,} -> "
        f"{report.bytes_written:,} bytes{speed}. Saved in {folder}/"
    )


def load_model(shape):
    """The model of the flags, or a small sparse one for a smoke run."""
    if FLAGS.model is not None:
        return keras.saving.load_model(FLAGS.model, compile=False)
    if not FLAGS.smoke:
        raise ValueError("--model must name a .keras file. Received: --model=None")
    keras.utils.set_random_seed(FLAGS.seed)
    model = scl_keras.architectures.lenet_300_100(shape, 10)
    return scl_keras.prune(model, sparsity=0.9)


def load_samples():
    """Inputs, labels or None, and the shape of one image if they are images."""
    if FLAGS.samples is None:
        data, _, (images, labels) = experiment.load_data()
        return images[: FLAGS.limit], labels[: FLAGS.limit], data.input_shape
    loaded = np.load(pathlib.Path(FLAGS.samples))
    if isinstance(loaded, np.ndarray):
        return loaded[: FLAGS.limit], None, None
    arrays = {name: loaded[name][: FLAGS.limit] for name in loaded.files}
    labels = arrays.pop("labels", None)
    return arrays, labels, None


if __name__ == "__main__":
    experiment.main(run)
