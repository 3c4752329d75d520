"""Small image-classification data sets as NumPy arrays.

`digits` ships with scikit-learn. The others come from TensorFlow Datasets (TFDS): what
is already prepared on this machine is used at once, and nothing is downloaded unless
asked for. Both libraries come with the extra `scl_keras[examples]`.
"""

import contextlib
import os
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

import numpy as np

from scl_keras import checks
from scl_keras.types import Shape

__all__ = ["DATASETS", "Dataset", "load_dataset"]

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
        data_dir: Folder with prepared TFDS data sets. Defaults to the environment
            variable `TFDS_DATA_DIR`, else to `~/tensorflow_datasets`. Not used for
            `digits`.
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
    return _load_digits() if name == "digits" else _load_tfds(name, data_dir, download)


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


def _load_tfds(name, data_dir, download):
    """Loads a TFDS data set, looking on this machine first."""
    with _extra(name):
        import tensorflow_datasets as tfds

    # TFDS reads the variable once, when imported; a later change should count too.
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:  # no files, and TFDS has no code for it
        builder = None
    if builder is None or not builder.is_prepared():
        _check_can_download(name, data_dir, download)
        builder.download_and_prepare()
    # `batch_size=-1` is one batch of everything, still uint8.
    (x_train, y_train), (x_test, y_test) = tfds.as_numpy(
        builder.as_dataset(split=["train", "test"], batch_size=-1, as_supervised=True)
    )
    num_classes = builder.info.features["label"].num_classes
    x_train, x_test = _unit_range(x_train), _unit_range(x_test)
    return Dataset(name, x_train, y_train, x_test, y_test, num_classes)


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
