import contextlib
import http.server
import io
import os
import pathlib
import socket
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from scl_keras import datasets
from scl_keras.datasets import DATASETS, load_dataset, pack_dataset
from scl_keras.packed_dataset import write_packed

EXAMPLES = {
    "mnist": (60_000, (28, 28, 1)),
    "fashion_mnist": (60_000, (28, 28, 1)),
    "cifar10": (50_000, (32, 32, 3)),
    "cifar10_jpeg": (50_000, (32, 32, 3)),
}


def prepared_folder(name):
    """The TFDS folder that holds `name`, or None."""
    beside = pathlib.Path(__file__).parents[2] / "shared" / "tensorflow_datasets"
    folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR", beside)).expanduser()
    return folder if any(folder.glob(f"{name}/*/dataset_info.json")) else None


@pytest.fixture
def offline(monkeypatch):
    """No host name can be resolved, and no proxy stands in for it: those asked for."""
    asked = []

    def fail(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    without_proxy(monkeypatch)
    return asked


def without_proxy(monkeypatch):
    for variable in list(os.environ):
        if variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)


@contextlib.contextmanager
def local_server(status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def check(data, name, train, test, input_shape):
    assert data.name == name
    assert data.num_classes == 10
    assert data.input_shape == input_shape
    splits = [(data.x_train, data.y_train, train), (data.x_test, data.y_test, test)]
    for images, labels, examples in splits:
        assert images.shape == (examples, *input_shape)
        assert images.dtype == np.float32
        assert images.min() == 0
        assert images.max() == 1
        assert labels.shape == (examples,)
        assert labels.dtype == np.int64
        assert set(np.unique(labels)) == set(range(10))


def test_digits():
    check(load_dataset("digits"), "digits", 1_437, 360, (8, 8, 1))


def test_digits_classes_are_spread_alike():
    data = load_dataset("digits")
    test = np.bincount(data.y_test)
    every = test + np.bincount(data.y_train)
    assert np.all(np.abs(test - every / 5) < 1)


def test_digits_are_the_same_whatever_the_random_state():
    np.random.seed(1)  # noqa: NPY002 - the global state is what is tested
    first = load_dataset("digits")
    np.random.seed(2)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    second = load_dataset("digits")
    for field in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_digits_test_images_are_not_in_training():
    data = load_dataset("digits")
    train = {image.tobytes() for image in data.x_train}
    assert not any(image.tobytes() in train for image in data.x_test)
    # Together they are all of them, labels in step with images.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    expected = sorted(
        (image.tobytes(), label)
        for image, label in zip(bunch.images, bunch.target, strict=True)
    )
    images = np.concatenate([data.x_train, data.x_test])[..., 0].astype("float64") * 16
    labels = np.concatenate([data.y_train, data.y_test])
    assert expected == sorted(
        (image.tobytes(), label) for image, label in zip(images, labels, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_prepared_data(name, monkeypatch, offline):
    folder = prepared_folder(name)
    if folder is None:
        pytest.skip(f"{name} is not prepared: set TFDS_DATA_DIR to where it is")
    # By variable, which counts even after TFDS was imported. `download` with nothing
    # to download needs no network.
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    train, input_shape = EXAMPLES[name]
    check(load_dataset(name, download=True), name, train, 10_000, input_shape)


@pytest.mark.parametrize("name", EXAMPLES)
def test_absent_says_how_to_get_it(name, tmp_path, offline):
    with pytest.raises(FileNotFoundError, match=r"not prepared in.*TFDS_DATA_DIR") as e:
        load_dataset(name, data_dir=tmp_path)
    assert not offline
    assert ("--download" in str(e.value)) == (name != "cifar10_jpeg")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_download_offline_asks_once_and_fails(name, tmp_path, offline):
    with pytest.raises(ConnectionError, match=r"does not answer.*TFDS_DATA_DIR"):
        load_dataset(name, data_dir=tmp_path, download=True)
    assert len(offline) == 1


def test_cifar10_jpeg_cannot_be_downloaded(tmp_path, offline):
    with pytest.raises(FileNotFoundError, match="TFDS cannot download it"):
        load_dataset("cifar10_jpeg", data_dir=tmp_path, download=True)


def test_download_starts_once_the_host_answers(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class Started(Exception):
        pass

    def start(self, **kwargs):
        raise Started

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", start)
    without_proxy(monkeypatch)
    with local_server(200) as url:
        monkeypatch.setitem(datasets._SOURCES, "mnist", url)
        with pytest.raises(Started):
            load_dataset("mnist", data_dir=tmp_path, download=True)


@pytest.mark.parametrize("status", [200, 404])
def test_any_answer_counts_as_a_connection(status, monkeypatch):
    without_proxy(monkeypatch)
    with local_server(status) as url:
        assert datasets._connection_problem(url) is None


def test_a_name_server_that_never_answers_is_given_up_on(monkeypatch):
    without_proxy(monkeypatch)
    answer = threading.Event()

    def wait(*args, **kwargs):
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    monkeypatch.setattr(datasets, "_CONNECT_SECONDS", 0.2)
    try:
        problem = datasets._connection_problem("http://example.invalid/")
    finally:
        answer.set()
    assert problem == "no answer within 0.2 seconds"


@pytest.mark.parametrize(
    ("name", "library"),
    [("digits", "sklearn.datasets"), ("mnist", "tensorflow_datasets")],
)
def test_a_missing_library_says_what_to_install(name, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    words = rf'{name}.*{library}.*pip install "scl_keras\[examples\]"'
    with pytest.raises(ImportError, match=words):
        load_dataset(name)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"'digits', 'mnist'.*Received: name='minst'"):
        load_dataset("minst")


def test_every_name_is_tested():
    assert ("digits", *EXAMPLES) == DATASETS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10_jpeg"])
def test_a_packed_data_set_is_the_same_without_its_library(name, tmp_path, monkeypatch):
    folder = prepared_folder(name)
    if folder is None:
        pytest.skip(f"{name} is not on this machine: set TFDS_DATA_DIR")
    path = pack_dataset(name, tmp_path, data_dir=folder)
    assert os.path.getsize(path) < 55 * 2**20
    data = load_dataset(name, data_dir=folder)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    packed = load_dataset(name, data_dir=tmp_path)
    for part in ("y_train", "y_test"):
        np.testing.assert_array_equal(getattr(packed, part), getattr(data, part))
    levels = 255 * np.abs(packed.x_test - data.x_test)
    # Decoders of JPEG round differently.
    assert levels.max() < (5.01 if name == "cifar10_jpeg" else 1e-6)
    assert (packed.name, packed.num_classes) == (name, 10)


def test_image_files_and_arrays_come_back_from_a_packed_file(tmp_path, rng):
    images = rng.integers(0, 256, (5, 4, 6, 3), "uint8")
    labels = np.arange(5)
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png")  # loses nothing
        files.append(buffer.getvalue())
    splits = {"train": (files, labels), "test": (images[:2], labels[:2])}
    write_packed(tmp_path / "mnist.npz", splits, 5)
    data = load_dataset("mnist", data_dir=tmp_path)
    np.testing.assert_allclose(data.x_train, images / 255, atol=1e-6)
    np.testing.assert_allclose(data.x_test, images[:2] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.y_train, labels)
    assert data.num_classes == 5
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.npz"]


def test_what_cannot_be_packed_is_refused(tmp_path, offline):
    with pytest.raises(ValueError, match="digits"):
        pack_dataset("digits", tmp_path)
    with pytest.raises(FileNotFoundError, match="not prepared"):
        pack_dataset("mnist", tmp_path / "packed", data_dir=tmp_path)
    assert not (tmp_path / "packed").exists()
