"""What `export_tflite` refuses, and that it leaves `path` alone."""

import resource

import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from export_models import dense_net, samples

from scl_keras import sparsify
from scl_keras.export import ExportError, export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.candidates import Candidate
from scl_keras.export.precisions import PRECISIONS


@pytest.fixture
def no_conversion(monkeypatch):
    def refuse(*_):
        raise AssertionError("converted before the arguments were checked")

    monkeypatch.setattr(tflite_module, "ConvertedFiles", refuse)


BAD_SAMPLES = {
    "wrong width": (np.ones((4, 7)), r"shape \(None, 8\).*Received: shape \(4, 7\)"),
    "no batch axis": (np.ones(8), r"batch axis first.*Received: shape \(8,\)"),
    "empty": (np.ones((0, 8)), "at least one.*Received"),
    "nan": (np.full((4, 8), np.nan), "finite.*Received: 32 NaN"),
    "complex": (np.ones((4, 8), complex), "must be an array.*Received"),
    "text": ("images", "must be an array.*Received"),
    "two arrays": ([np.ones((4, 8)), np.ones((4, 8))], "1 inputs. Received: 2"),
    "wrong name": ({"nose": np.ones((4, 8))}, "as keys.*Received.*nose"),
    "nothing": (None, "must be an array.*Received"),
}


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_bad_samples(tmp_path, no_conversion, case):
    bad, message = BAD_SAMPLES[case]
    with pytest.raises(ValueError, match=message):
        export_tflite(dense_net(8), tmp_path / "model.tflite", samples=bad)
    assert not list(tmp_path.iterdir())


def test_samples_of_different_length(tmp_path, no_conversion):
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    model = keras.Model([one, two], keras.layers.Add()([one, two]))
    with pytest.raises(ValueError, match=r"same number.*Received: \[4, 5\]"):
        export_tflite(
            model,
            tmp_path / "model.tflite",
            samples=[np.ones((4, 3)), np.ones((5, 3))],
        )


def test_fewer_samples_than_the_fixed_batch(tmp_path, no_conversion):
    model = keras.Sequential([keras.Input(batch_shape=(8, 3)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"batch size 8. Received: 5"):
        export_tflite(model, tmp_path / "model.tflite", samples=samples(3, count=5))


def test_float_samples_for_integer_input(tmp_path, no_conversion):
    tokens = keras.Input((4,), dtype="int32")
    model = keras.Model(tokens, keras.layers.Embedding(9, 2)(tokens))
    with pytest.raises(ValueError, match=r"must be int32.*dtype float"):
        export_tflite(model, tmp_path / "model.tflite", samples=samples(4))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.h5", "end in '.tflite'.*Received"),
        ("model", "end in '.tflite'.*Received"),
        ("missing/model.tflite", "folder.*must exist.*Received"),
        ("folder.tflite", "not a folder.*Received"),
    ],
)
def test_bad_path(tmp_path, no_conversion, name, message):
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ValueError, match=message):
        export_tflite(dense_net(8), tmp_path / name, samples=samples(8))


@pytest.mark.parametrize(
    "options",
    [
        {"tolerance": 0},
        {"tolerance": float("nan")},
        {"latency_seconds": -1},
        {"optimize_for": "speed"},
        {"dtype": "bfloat16"},
        {"optimize_for": "latency", "latency_seconds": 0},
        {"labels": np.zeros(39, int)},
        {"labels": np.zeros(40)},
        {"labels": np.zeros((40, 10), int)},
    ],
)
def test_bad_options(tmp_path, no_conversion, options):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="Received: "):
        export_tflite(dense_net(8), path, samples=samples(8), **options)


def test_unbuilt_model(tmp_path, no_conversion):
    model = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"must be built.*Received"):
        export_tflite(model, tmp_path / "model.tflite", samples=samples(8))


def test_not_a_model(tmp_path, no_conversion):
    with pytest.raises(ValueError, match=r"keras\.Model. Received"):
        export_tflite("model.keras", tmp_path / "model.tflite", samples=samples(8))


def test_model_that_computes_nan(tmp_path, no_conversion):
    model = dense_net(8)
    model.layers[0].bias.assign(np.full(50, np.nan))
    with pytest.raises(ValueError, match="Received: NaN in 'output_0'"):
        export_tflite(model, tmp_path / "model.tflite", samples=samples(8))


def raises(files):
    raise OSError("no more space")


WRONG = {
    "garbage": lambda files: b"not a TFLite file at all, not even nearly",
    "cut off": lambda files: files.plain[: len(files.plain) // 2],
    "empty": lambda files: b"",
    "raises": raises,
}


def use_candidates(monkeypatch, **makers):
    """Has functions of a `ConvertedFiles` make the files, and nothing else."""

    class Made(Candidate):
        @property
        def name(self):
            return self.encoding

        def make(self, files):
            return makers[self.encoding](files)

    made = [Made(PRECISIONS[0], name) for name in makers]
    monkeypatch.setattr(tflite_module, "candidates", lambda dtype: made)


@pytest.mark.parametrize("wrong", WRONG)
def test_unusable_files(tmp_path, monkeypatch, wrong):
    use_candidates(monkeypatch, broken=WRONG[wrong])
    with pytest.raises(ExportError, match="nothing was written"):
        export_tflite(
            dense_net(8, zeros=0.9), tmp_path / "model.tflite", samples=samples(8)
        )
    assert not list(tmp_path.iterdir())


def other_network(files):
    """The file with other weights: it runs, but computes something else."""
    parsed = flatbuffer_utils.convert_bytearray_to_object(files.plain)
    largest = max(parsed.buffers, key=lambda b: 0 if b.data is None else len(b.data))
    values = 1.01 * np.frombuffer(bytes(largest.data), "<f4")
    largest.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def test_file_that_computes_something_else(tmp_path, monkeypatch):
    use_candidates(monkeypatch, dense=other_network)
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the file of yesterday")
    with pytest.raises(ExportError, match=r"dense: computes something else") as caught:
        export_tflite(dense_net(8), path, samples=samples(8))
    assert isinstance(caught.value, RuntimeError)
    assert path.read_bytes() == b"the file of yesterday"
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]


def test_model_the_converter_cannot_take(tmp_path):
    numbers = keras.Input((4,), dtype="int32")
    model = keras.Model(numbers, keras.ops.bitwise_and(numbers, numbers))
    with pytest.raises(ExportError, match="cannot convert this model"):
        export_tflite(
            model, tmp_path / "model.tflite", samples=np.ones((4, 4), "int32")
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_recurrent_layer_converts_when_it_is_unrolled(tmp_path):
    def model(unroll):
        inputs = keras.Input((3, 4))
        return sparsify(
            keras.Model(inputs, keras.layers.GRU(16, unroll=unroll)(inputs))
        )

    path, x = tmp_path / "model.tflite", samples(3, 4, count=4)
    with pytest.raises(ExportError, match=r"`unroll=True`"):
        export_tflite(model(False), path, samples=x)
    assert not list(tmp_path.iterdir())
    assert export_tflite(model(True), path, samples=x, latency_seconds=0).candidate


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_a_recurrent_layer_converts_with_a_fixed_batch(tmp_path, size):
    def model(batch):
        inputs = keras.Input(batch_shape=(batch, 3, 4))
        return keras.Model(inputs, keras.layers.GRU(8)(inputs))

    path, x = tmp_path / "model.tflite", samples(3, 4, count=4)
    with pytest.raises(
        ExportError, match=r"or when.*fixed: `keras.Input\(batch_shape="
    ):
        export_tflite(model(None), path, samples=x)
    assert export_tflite(model(size), path, samples=x, latency_seconds=0).candidate


class Forgetful(keras.layers.Layer):
    """Can't be made from its configuration, which lacks an argument."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.dense = keras.layers.Dense(6)

    def call(self, inputs):
        return self.factor * self.dense(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_that_cannot_be_made_from_its_config(tmp_path, masked):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(3)(Forgetful(2.0)(inputs)))
    if masked:
        model = sparsify(model, verbose=0)
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, samples=samples(8), latency_seconds=0)
    assert report.largest_difference < 1e-4


def test_a_full_temporary_folder(tmp_path):
    """The converter isn't blamed for it."""
    inputs = keras.Input((400,))
    model = keras.Model(inputs, keras.layers.Dense(400)(inputs))
    path, x = tmp_path / "model.tflite", samples(400, count=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # bytes of a file
    try:
        with pytest.raises(ExportError, match="temporary folder.*TMPDIR") as caught:
            export_tflite(model, path, samples=x)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "converter cannot" not in str(caught.value)
    assert not list(tmp_path.iterdir())


class Untraceable(keras.layers.Layer):
    """Computes outside of TensorFlow, which can't be saved."""

    def call(self, inputs):
        return keras.ops.convert_to_tensor(keras.ops.convert_to_numpy(inputs) * 2)

    def compute_output_shape(self, shape):
        return shape

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def test_a_model_that_cannot_be_saved(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Untraceable()(inputs))
    with pytest.raises(ExportError, match="cannot save this model") as caught:
        export_tflite(model, tmp_path / "model.tflite", samples=samples(4))
    assert "temporary folder" not in str(caught.value)


def test_wrong_encoder_beside_a_right_one(tmp_path, monkeypatch):
    use_candidates(
        monkeypatch,
        broken=WRONG["raises"],
        dense=lambda files: files.plain,
    )
    path = tmp_path / "model.tflite"
    report = export_tflite(dense_net(8), path, samples=samples(8), latency_seconds=0)
    assert report.candidate == "dense" and path.exists()
    assert "no more space" in report.attempts[0].outcome


def test_existing_file_is_replaced(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the file of yesterday")
    report = export_tflite(dense_net(8), path, samples=samples(8), latency_seconds=0)
    assert path.stat().st_size == report.bytes_written
    assert path.read_bytes()[4:8] == b"TFL3"
