r"""Makes an entry of the zoo from a run of train_scl.py.

    python examples/train_scl.py --seed=0 --out=runs/digits
    python examples/zoo/make_card.py --run=runs/digits --name=digits_lenet_300_100

Takes the run's stripped model, masks and TFLite file, measures both on all of the test
images, and writes to --out (by default saved_models):

    NAME.keras      the stock Keras model with zeros in its kernels, compressed
    NAME.tflite     the TFLite file as it is
    NAME.masks.npz  the masks, one bit a connection
    NAME.json       the card: data, command, seed, versions, figures, SHA-256
    NAME.md         the card to read
    README.md       the table of all entries there

The entry is checked as `verify_models.py` does it before the command ends.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import zoo_entry
from absl import app, flags, logging
from records import write_json, write_text

import scl_keras
from scl_keras import zoo
from scl_keras.datasets import load_dataset
from scl_keras.graph.kernels import prunable_kernels

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder that train_scl.py wrote.")
flags.DEFINE_string("name", None, "Of the entry; default: data set and network.")
flags.DEFINE_bool("smoke", False, "Train for some seconds first, if there's no --run.")
flags.DEFINE_string(
    "out", None, "Folder of the zoo; default: saved_models, runs/zoo_smoke for --smoke."
)
flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS data sets; default: $TFDS_DATA_DIR."
)


def main(argv):
    """Makes the entry, and checks it."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    default = "runs/zoo_smoke" if FLAGS.smoke else "saved_models"
    folder = pathlib.Path(FLAGS.out or default)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            name = make_entry(run_folder(scratch), folder)
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print((folder / f"{name}.md").read_text())


def run_folder(scratch):
    """The folder of the run; that of a short one in a smoke run."""
    if FLAGS.run is not None:
        return pathlib.Path(FLAGS.run)
    if not FLAGS.smoke:
        raise ValueError("--run must name a folder of train_scl.py. Received: None")
    binary = pathlib.Path(__file__).parents[1] / "train_scl.py"
    command = [sys.executable, str(binary), "--smoke", f"--out={scratch}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"train_scl.py --smoke failed:\n{done.stderr[-2000:]}")
    return pathlib.Path(scratch)


def make_entry(run, folder):
    """Writes the files of an entry and its card; returns its name."""
    results = json.loads((run / "results.json").read_text())
    for key in ("export", "command"):
        if key not in results:
            raise ValueError(
                f"An entry needs the run's {key!r}: train again, without --noexport. "
                f"Received: --run={run}"
            )
    options = results["flags"]
    name = FLAGS.name or f"{options['dataset']}_{options['architecture']}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {end: folder / f"{name}{end}" for end in zoo_entry.FILES}
    compress(run / "stripped.keras", paths[".keras"])
    shutil.copyfile(run / "model.tflite", paths[".tflite"])
    masks = masks_of(run / "scl.keras")
    zoo.save_masks(paths[".masks.npz"], masks)
    for path in paths.values():
        if path.stat().st_size >= zoo_entry.MOST_BYTES:
            raise ValueError(
                f"A file of the zoo must have less than {zoo_entry.MOST_BYTES:,} "
                f"bytes. Received: {path} with {path.stat().st_size:,}"
            )
    data = load_dataset(options["dataset"], data_dir=FLAGS.data_dir)
    model = keras.saving.load_model(paths[".keras"], compile=False)
    dense_bytes, speed = zoo_entry.against_dense(model, paths[".tflite"], seconds=2)
    card = {
        "name": name,
        "dataset": options["dataset"],
        "architecture": options["architecture"],
        "command": results["command"],
        "seed": options["seed"],
        "versions": results["versions"],
        "test_images": len(data.y_test),
        "dense_accuracy": results["dense_accuracy"],
        "accuracy": zoo_entry.keras_accuracy(model, data),
        "tflite_accuracy": zoo_entry.tflite_accuracy(paths[".tflite"], data),
        **zoo_entry.connections(model),
        "candidate": results["export"]["candidate"],
        "dense_bytes": dense_bytes,
        "latency_ratio": speed.ratio,
        "files": zoo_entry.file_figures(paths),
    }
    write_json(folder / f"{name}.json", card)
    write_text(folder / f"{name}.md", zoo_entry.as_markdown(card))
    failed = [c for c in zoo_entry.verify(name, folder, data) if not c.passed]
    if failed:
        raise ValueError(
            "The entry isn't what its card says: " + "; ".join(c.what for c in failed)
        )
    zoo_entry.write_index(folder)
    return name


def masks_of(path):
    """The masks of a saved SCL model: dict of boolean arrays by label."""
    model = keras.saving.load_model(path, compile=False)
    if not scl_keras.find_masks(model):
        raise ValueError(f"The model must have masks. Received: {path}")
    return {kernel.label: kernel.kept() for kernel in prunable_kernels(model)}


def compress(source, path):
    """Copies a .keras file, which is a zip archive without compression, with it."""
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for entry in old.namelist():
            # Without the time of day: the same run makes the same file again.
            info = zipfile.ZipInfo(entry)
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, old.read(entry), compresslevel=9)


if __name__ == "__main__":
    app.run(main)
