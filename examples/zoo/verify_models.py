r"""Checks every card of the zoo against its files and the data.

    python examples/zoo/verify_models.py
    python examples/zoo/verify_models.py --name=digits_lenet_300_100 --seconds=0

For each entry: SHA-256 and bytes of all files, masks against nonzero weights, direct
and effective connections, and the accuracies of the .keras and the .tflite file on all
test images, within two images. Accuracies of an entry whose data set isn't on this
machine are left out, and it says so. How many times as fast as the dense file the
TFLite file is, depends on the machine: it is measured (for --seconds, one thread) and
shown beside the card's, no more. Writes all figures to --out as JSON, and ends with
exit code 1 if one is wrong.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import zoo_entry
from absl import app, flags, logging
from records import write_json

from scl_keras import zoo
from scl_keras.datasets import load_dataset

FLAGS = flags.FLAGS
flags.DEFINE_multi_string("name", None, "Entries to check; default: all.")
flags.DEFINE_string("out", "runs/verify_models.json", "File to write to.")
flags.DEFINE_string("folder", None, "Folder of the zoo; default: as scl_keras.zoo.")
flags.DEFINE_bool("smoke", False, "Only data that come with scikit-learn; no times.")
flags.DEFINE_float("seconds", 1.0, "How long to time a file; 0: not at all.", 0)
flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS data sets; default: $TFDS_DATA_DIR."
)


def main(argv):
    """Checks all entries; prints a line for each figure that is wrong."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    try:
        names = FLAGS.name or zoo.names(FLAGS.folder)
        checks = {name: check(name) for name in names}
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    if not checks:
        sys.exit("The zoo is empty: nothing to check.")
    write_json(FLAGS.out, {n: [vars(c) for c in cs] for n, cs in checks.items()})
    wrong = sum(not all(c.passed for c in cs) for cs in checks.values())
    if wrong:
        sys.exit(f"{wrong} of {len(checks)} entries are wrong.")
    print(f"All {len(checks)} entries are what their cards say.")


def check(name):
    """Checks an entry, and prints what came of it; a list of its figures."""
    card = zoo.load_card(name, FLAGS.folder)
    data, note = None, ""
    if card["dataset"] == "digits" or not FLAGS.smoke:
        try:
            data = load_dataset(card["dataset"], data_dir=FLAGS.data_dir)
        except FileNotFoundError as error:
            note = str(error)
    else:
        note = f"{card['dataset']} doesn't come with scikit-learn, and this is --smoke"
    checks = zoo_entry.verify(name, FLAGS.folder, data)
    wrong = [c for c in checks if not c.passed]
    done = f"{len(checks) - len(wrong)} of {len(checks)} figures right"
    print(f"{name}: {done}{times(name, card)}")
    for c in wrong:
        print(f"  wrong: {c.what}: the card says {c.card}, found {c.found}")
    if note:
        print(f"  accuracies skipped: {note}")
    return checks


def times(name, card):
    """How many times as fast as the dense file, here and on the card: a text."""
    if FLAGS.smoke or not FLAGS.seconds:
        return ""
    model = zoo.load(name, FLAGS.folder)
    path = zoo.path_of(name, ".tflite", FLAGS.folder)
    _, found = zoo_entry.against_dense(model, path, FLAGS.seconds)
    return f"; beside dense {found} (its card: {card['latency_ratio']:.2f}x)"


if __name__ == "__main__":
    app.run(main)
