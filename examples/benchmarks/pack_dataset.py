r"""Packs a data set into one NumPy file, for machines without TFDS and TensorFlow.

    python examples/benchmarks/pack_dataset.py --dataset=cifar10_jpeg --out=packed
    KERAS_BACKEND=jax python examples/benchmarks/compare_methods.py --network=resnet \
        --data_dir=packed

The second command may run on another machine, to which the folder was copied.
"""

import os
import sys

import numpy as np
from absl import app, flags

from scl_keras.datasets import DATASETS, pack_dataset
from scl_keras.packed_dataset import write_packed

FLAGS = flags.FLAGS
PACKED = [name for name in DATASETS if name != "digits"]
flags.DEFINE_enum("dataset", "cifar10_jpeg", PACKED, "Data set to pack.")
flags.DEFINE_bool("download", False, "Let TFDS download the data set if it is absent.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS data sets; default: $TFDS_DATA_DIR."
)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/packed", "Folder to write to.")


def pack():
    """Packs the data set of the flags: the file's path."""
    options = {"data_dir": FLAGS.data_dir, "download": FLAGS.download}
    return pack_dataset(FLAGS.dataset, FLAGS.out, **options)


def pack_noise():
    """Packs a few random images, since a smoke run needs no data set."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 32, 32, 3), "uint8"), np.arange(64) % 10
    os.makedirs(FLAGS.out, exist_ok=True)
    path = os.path.join(FLAGS.out, f"{FLAGS.dataset}.npz")
    write_packed(path, {"train": (images, labels), "test": (images, labels)}, 10)
    return path


def main(argv):
    """Packs it, and tells how large it became."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    try:
        path = pack_noise() if FLAGS.smoke else pack()
    except (ImportError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{path}: {os.path.getsize(path) / 2**20:.1f} MiB")


if __name__ == "__main__":
    app.run(main)
