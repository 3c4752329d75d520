"""Our own encoding, and the decoder that checks everybody's."""

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from export_models import conv_net, dense_net, samples

from scl_keras.export import encodings, export_tflite
from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.encodings import encode_csr
from scl_keras.export.reference import build_reference
from scl_keras.export.sparse_format import best_layout
from scl_keras.export.weights import read_weights


def converted(model, inputs):
    return ConvertedFiles(build_reference(model, inputs))


def sorted_contents(file):
    # The converter's own folding leaves some zeros negative; plus 0 ends that.
    return sorted(
        (w.values.shape, (w.values + 0).tobytes()) for w in read_weights(file)
    )


def test_decoding_undoes_encoding():
    with converted(conv_net(0.9), samples(12, 12, 3)) as files:
        dense, csr, sparse = files.plain, encode_csr(files.plain), files.sparse()
    assert len(csr) < len(sparse) < len(dense)
    assert sorted_contents(csr) == sorted_contents(dense)
    # The decoder reads the converter's encoding too, which nobody here wrote.
    assert sorted_contents(sparse) == sorted_contents(dense)


@pytest.mark.slow
def test_decoder_reads_blocks():
    with converted(dense_net(400, 300, zeros=0.98), samples(400)) as files:
        sparse = files.sparse()
        assert "block 1x4" in {w.encoding for w in read_weights(sparse)}
        assert sorted_contents(sparse) == sorted_contents(files.plain)


def test_encoding_twice_changes_nothing():
    with converted(dense_net(100, zeros=0.9), samples(100)) as files:
        once = encode_csr(files.plain)
    assert encode_csr(once) == once


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [256, 257, 70_000])
def test_index_widths(tmp_path, inputs):
    model = dense_net(inputs, hidden=3, zeros=0.95)
    kernel = model.layers[0].kernel.numpy()
    kernel[-1] = 1.0  # the largest index is used
    model.layers[0].kernel.assign(kernel)
    report = export_tflite(
        model, tmp_path / "m.tflite", samples=samples(inputs), latency_seconds=0
    )
    assert "csr" in report.tensors[-1].encoding + report.tensors[0].encoding


def test_layout_is_the_smallest():
    kernel = np.zeros((16, 3, 3, 3), np.float32)
    kernel[:, 1, 1, 1] = 1
    # 27 rows along axis 0; 144 along the last: 28 and 145 starts of a byte.
    assert best_layout(kernel).axis == 0
    assert best_layout(kernel).bytes == 16 * 5 + 28
    # Of equal layouts the converter's.
    assert best_layout(np.eye(40, dtype=np.float32)).axis == 1


@pytest.mark.slow
def test_a_lost_weight_is_noticed(tmp_path, monkeypatch):
    """However small it is: no run on samples could tell it from rounding."""
    model = dense_net(100, zeros=0.9)
    kernel = model.layers[0].kernel.numpy()
    kernel[0, 0] = 1e-9
    model.layers[0].kernel.assign(kernel)

    def drop_it(file):
        parsed = flatbuffer_utils.convert_bytearray_to_object(encode_csr(file))
        for buffer in parsed.buffers:
            if buffer.data is not None and len(buffer.data) % 4 == 0:
                values = np.frombuffer(bytes(buffer.data), "<f4").copy()
                if (values == np.float32(1e-9)).any():
                    values[values == np.float32(1e-9)] = 0
                    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))

    monkeypatch.setitem(encodings.ENCODINGS, "csr", drop_it)
    report = export_tflite(
        model, tmp_path / "m.tflite", samples=samples(100), latency_seconds=0
    )
    assert report.candidate != "csr"
    lossy = next(a for a in report.attempts if a.candidate == "csr")
    assert "does not hold the model's weights" in lossy.outcome
