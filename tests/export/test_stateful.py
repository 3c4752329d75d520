"""Layers that go on from where they were: so do their files, from zeros."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras.export import export_tflite
from scl_keras.export.verification import open_interpreter


@pytest.mark.slow
@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM])
def test_a_file_begins_with_no_state_and_the_model_goes_on(kind, tmp_path, rng):
    layer = kind(4, stateful=True, bias_initializer="ones")
    model = keras.Sequential([keras.Input((3, 2), batch_size=1), layer])
    x = rng.normal(size=(3, 3, 2)).astype("float32")
    model.predict(x[:1], verbose=0)
    before = [keras.ops.convert_to_numpy(state) for state in layer.states]
    path = tmp_path / "model.tflite"
    export_tflite(model, path, samples=x)
    for a, b in zip(before, layer.states, strict=True):
        np.testing.assert_array_equal(a, keras.ops.convert_to_numpy(b))
    layer.reset_states()
    run = open_interpreter(path.read_bytes()).get_signature_runner()
    (name,) = run.get_input_details()
    for sample in (x[:1], x[1:2], x[:1]):
        (found,) = run(**{name: sample}).values()
        expected = keras.ops.convert_to_numpy(model(sample))
        np.testing.assert_allclose(found, expected, atol=1e-5)
