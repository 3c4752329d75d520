"""Small image-classification data sets as NumPy arrays.

`digits` ships with scikit-learn. The others come from TensorFlow Datasets (TFDS): what
is already prepared on this machine is used at once, and nothing is downloaded unless
asked for. Both libraries come with the extra `scl_keras[examples]`. A data set that
`pack_dataset` made a file of needs neither.
"""

import contextlib
import os
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

import numpy as np

from scl_keras import checks
from scl_keras.packed_dataset import read_packed, write_packed
from scl_keras.types import Shape

__all__ = ["DATASETS", "Dataset", "load_dataset", "pack_dataset"]

# Where TFDS fetches each data set from; None: TFDS cannot fetch it. Only used to find
# out, within seconds, whether a download has any chance at all.
_SOURCES = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar10_jpeg": None,
}

DATASETS = ("digits", *_SOURCES)
"""The names that `load_dataset` knows."""

_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split into training and test examples.

    Attributes:
        name: The name it was loaded under, and has to be reported under.
        x_train: Training images, float32 in [0, 1], of shape
            `(examples, height, width, channels)`.
        y_train: Training labels, int64 in `[0, num_classes)`, of shape `(examples,)`.
        x_test: Test images, like `x_train`.
        y_test: Test labels, like `y_train`.
        num_classes: Number of classes.

    Example:

    ```python
    import numpy as np

    xor = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32").reshape(4, 1, 2, 1)
    mine = Dataset("xor", xor, np.array([0, 1, 1, 0]), xor, np.array([0, 1, 1, 0]), 2)
    mine.input_shape  # (1, 2, 1)
    ```
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int

    @property
    def input_shape(self) -> Shape:
        """Shape of one image, `(height, width, channels)`."""
        return self.x_train.shape[1:]


def load_dataset(
    name: str, *, data_dir: str | os.PathLike[str] | None = None, download: bool = False
) -> Dataset:
    """Loads a data set as NumPy arrays.

    | name            | training / test   | one image    |
    |-----------------|-------------------|--------------|
    | `digits`        | 1,437 / 360       | `(8, 8, 1)`  |
    | `mnist`         | 60,000 / 10,000   | `(28, 28, 1)`|
    | `fashion_mnist` | 60,000 / 10,000   | `(28, 28, 1)`|
    | `cifar10`       | 50,000 / 10,000   | `(32, 32, 3)`|
    | `cifar10_jpeg`  | 50,000 / 10,000   | `(32, 32, 3)`|

    `cifar10_jpeg` is CIFAR-10 re-encoded as JPEG. Its pixels differ slightly from the
    originals, so accuracies on it are not accuracies on CIFAR-10: report them under
    its own name. TFDS cannot fetch it; it has to be in the data folder already.

    Example:
    ```python
    from scl_keras.datasets import load_dataset

    digits = load_dataset("digits")
    assert digits.x_train.shape == (1437, 8, 8, 1)
    assert digits.input_shape == (8, 8, 1) and digits.num_classes == 10
    ```

    Args:
        name: One of `DATASETS`.
        data_dir: Folder with prepared TFDS data sets, or with what `pack_dataset` made
            of them. Defaults to the environment variable `TFDS_DATA_DIR`, else to
            `~/tensorflow_datasets`. Not used for `digits`.
        download: Whether to download the data set if it is not in `data_dir` yet.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: If `name` is unknown.
        FileNotFoundError: If the data set is not on this machine and was not, or
            cannot be, downloaded.
        ConnectionError: If a download was asked for and its host does not answer.
        ImportError: If the library that it comes from is not installed.
    """
    checks.one_of("name", name, DATASETS)
    if data_dir is not None:
        checks.path("data_dir", data_dir)
    if name == "digits":
        return _load_digits()
    data_dir = _folder(data_dir)
    packed = os.path.join(data_dir, f"{name}.npz") if data_dir else ""
    if os.path.exists(packed):
        splits, num_classes = read_packed(packed)
    else:
        splits, num_classes = _load_tfds(name, data_dir, download)
    (x_train, y_train), (x_test, y_test) = splits["train"], splits["test"]
    x_train, x_test = _unit_range(x_train), _unit_range(x_test)
    return Dataset(name, x_train, y_train, x_test, y_test, num_classes)


def pack_dataset(
    name: str,
    folder: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> str:
    """Makes one file of a TFDS data set, for machines without TFDS and TensorFlow.

    There, `load_dataset(name, data_dir=folder)` reads it. Images that TFDS keeps as
    JPEG stay so in the file, and are decoded by Pillow: their pixels differ by a few
    of 255 levels from those that TensorFlow decodes.

    Example:

    ```python
    try:
        pack_dataset("cifar10_jpeg", "packed")  # "packed/cifar10_jpeg.npz"
    except (FileNotFoundError, ImportError):
        print("it isn't on this machine")
    ```

    Args:
        name: One of `DATASETS` but `digits`, which comes with scikit-learn.
        folder: Where to write it; made if it isn't there.
        data_dir: As for `load_dataset`.
        download: As for `load_dataset`.

    Returns:
        The file's path.

    Raises:
        ValueError: If `name` is unknown.
        FileNotFoundError: As `load_dataset`.
        ConnectionError: As `load_dataset`.
        ImportError: As `load_dataset`.
    """
    checks.one_of("name", name, tuple(_SOURCES))
    checks.path("folder", folder)
    splits, num_classes = _load_tfds(name, _folder(data_dir), download, encoded=True)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{name}.npz")
    write_packed(path, splits, num_classes)
    return path


@contextlib.contextmanager
def _extra(name):
    """Says what to install where a library is missing."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"The data set {name!r} comes from a library that is not installed "
            f'({error}): pip install "scl_keras[examples]"'
        ) from error


def _load_digits():
    """Splits scikit-learn's digits without a random number, so always the same way."""
    with _extra("digits"):
        from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images / 16).astype("float32")[..., np.newaxis]
    labels = bunch.target.astype("int64")
    # Every fifth image of the list ordered by class: a test set with all classes and,
    # as the file goes from writer to writer, all writers in proportion.
    by_class = np.argsort(labels, kind="stable")
    test = np.zeros(len(labels), bool)
    test[by_class[::5]] = True
    return Dataset(
        "digits", images[~test], labels[~test], images[test], labels[test], 10
    )


def _folder(data_dir):
    """Where data sets are, or None for TFDS's own place."""
    # TFDS reads the variable once, when imported; a later change should count too.
    return data_dir or os.environ.get("TFDS_DATA_DIR") or None


def _load_tfds(name, data_dir, download, encoded=False):
    """Loads a TFDS data set, looking on this machine first.

    Images are uint8; or, if `encoded`, the bytes of their files where those are JPEG.
    """
    with _extra(name):
        import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:  # no files, and TFDS has no code for it
        builder = None
    if builder is None or not builder.is_prepared():
        _check_can_download(name, data_dir, download)
        builder.download_and_prepare()
    features = builder.info.features
    is_jpeg = features["image"].encoding_format == "jpeg"
    decoders = {"image": tfds.decode.SkipDecoding()} if encoded and is_jpeg else None
    # `batch_size=-1` is one batch of everything.
    train, test = tfds.as_numpy(
        builder.as_dataset(
            split=["train", "test"],
            batch_size=-1,
            as_supervised=True,
            decoders=decoders,
        )
    )
    if decoders:
        train, test = ((list(images), labels) for images, labels in (train, test))
    return {"train": train, "test": test}, features["label"].num_classes


def _unit_range(images):
    """Converts uint8 images to float32 in [0, 1], with one array of that size."""
    images = images.astype("float32")
    images /= 255
    return images


def _check_can_download(name, data_dir, download):
    """Raises the error that tells what to do, unless a download can start now."""
    folder = data_dir or os.path.join("~", "tensorflow_datasets")
    absent = f"Dataset {name!r} is not prepared in {str(folder)!r}."
    elsewhere = (
        "if it is in another folder, set the environment variable TFDS_DATA_DIR "
        "(or `data_dir`) to that folder"
    )
    url = _SOURCES[name]
    if url is None:
        raise FileNotFoundError(
            f"{absent} TFDS cannot download it; {elsewhere}. "
            f"Received: name={name!r}, data_dir={data_dir!r}, download={download}"
        )
    if not download:
        raise FileNotFoundError(
            f"{absent} To download it, pass `download=True` (command line: "
            f"--download); {elsewhere}. "
            f"Received: name={name!r}, data_dir={data_dir!r}, download={download}"
        )
    problem = _connection_problem(url)
    if problem is not None:
        raise ConnectionError(
            f"{absent} It cannot be downloaded either: {url} does not answer "
            f"({problem}). Check the network connection; {elsewhere}. "
            f"Received: name={name!r}, data_dir={data_dir!r}, download={download}"
        )


def _connection_problem(url):
    """Returns why `url` cannot be reached, or None if it answers.

    Offline, TFDS itself retries for minutes. The attempt runs in a thread because
    looking up a host name obeys no timeout.
    """
    problem = [f"no answer within {_CONNECT_SECONDS:g} seconds"]

    def connect():
        try:
            # urllib rather than a socket: behind a proxy only this gets through.
            urllib.request.urlopen(url, timeout=_CONNECT_SECONDS).close()
            problem[0] = None
        except urllib.error.HTTPError as error:
            error.close()
            problem[0] = None  # An error page is an answer: leave the rest to TFDS.
        except OSError as error:
            problem[0] = str(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return problem[0]
