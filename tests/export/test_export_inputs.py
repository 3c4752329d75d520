"""Inputs and outputs of any name and nesting, and samples in any form that fits."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_models import dense_net, samples
from keras import layers

from scl_keras.export import export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.candidates import candidates


@pytest.fixture(autouse=True)
def plain_only(monkeypatch):
    def plain(dtype):
        return [c for c in candidates(dtype) if c.plain]

    monkeypatch.setattr(tflite_module, "candidates", plain)


def export(model, path, given):
    return export_tflite(model, path, samples=given, latency_seconds=0)


def run(path, *arrays):
    """Feeds a file's inputs in the order of their names."""
    runner = Interpreter(str(path)).get_signature_runner()
    names = sorted(runner.get_input_details())
    return names, runner(**dict(zip(names, arrays, strict=True)))


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("class", "def", "None", "self", "name", "args", "kwargs"),
        *("ü", "_x", "__", "x:0", "1x", "x" * 300),
    ],
)
def test_a_name_of_any_kind(tmp_path, name):
    inputs = keras.Input((4,), name=name)
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    x, path = samples(4), tmp_path / "m.tflite"
    export(model, path, {name: x})
    [own], outputs = run(path, x)
    assert own == "1x" or (own.isascii() and own.isidentifier())
    close(outputs["output_0"], model(x))
    if own != name:
        export(model, path, {own: x})  # the file's name for it


@pytest.mark.parametrize("names", [("a-b", "a_b"), ("A", "a"), ("ö", "ü")])
@pytest.mark.parametrize("form", ["list", "dict", "by name"])
def test_names_that_are_alike(tmp_path, names, form):
    one, two = (keras.Input((4,), name=name) for name in names)
    both = dict(zip(names, (one, two), strict=True))
    inputs = both if form == "dict" else [one, two]
    model = keras.Model(inputs, layers.Subtract()([one, two]))
    x, y, path = samples(4), samples(4, seed=2), tmp_path / "m.tflite"
    given = [x, y] if form == "list" else dict(zip(names, (x, y), strict=True))
    export(model, path, given)
    own, outputs = run(path, x, y)
    assert len(set(own)) == 2
    close(outputs["output_0"], x - y)


def test_outputs_of_any_name(tmp_path):
    inputs = keras.Input((4,))
    names = ["a-b", "a_b", "class", "ü"]
    outputs = {n: layers.Dense(2, name=f"d{i}")(inputs) for i, n in enumerate(names)}
    model = keras.Model(inputs, outputs)
    x, path = samples(4), tmp_path / "m.tflite"
    report = export(model, path, x)
    assert len({d.output for d in report.differences}) == 4
    _, found = run(path, x)
    for expected in model(x).values():  # each is there, under some name
        assert any(np.allclose(f, expected, atol=1e-5) for f in found.values())


class Sum(layers.Layer):
    def call(self, first, second=None):
        return first if second is None else first + second


@pytest.mark.slow
@pytest.mark.parametrize("as_dict", [False, True])
def test_an_optional_input(tmp_path, as_dict):
    first = keras.Input((4,), name="first")
    second = keras.Input((4,), name="second", optional=True)
    inputs = {"first": first, "second": second} if as_dict else [first, second]
    model = keras.Model(inputs, layers.Dense(3)(Sum()(first, second)))
    x, y, path = samples(4), samples(4, seed=2), tmp_path / "m.tflite"

    export(model, path, [x, y])
    names, outputs = run(path, x, y)
    assert names == ["first", "second"]
    with_both = model({"first": x, "second": y} if as_dict else [x, y])
    close(outputs["output_0"], with_both)

    alone = model({"first": x, "second": None} if as_dict else [x, None])
    for given in ([x, None], {"first": x, "second": None}, {"first": x}):
        export(model, path, given)
        names, outputs = run(path, x)
        assert names == ["first"]
        close(outputs["output_0"], alone)
    for given in ([None, y], {"first": None, "second": y}):
        with pytest.raises(ValueError, match="'first', which isn't optional.*Received"):
            export(model, path, given)
    with pytest.raises(ValueError, match="as keys.*Received.*second"):
        export(model, path, {"second": y})


def abc():
    a, b, c = (keras.Input((4,), name=name) for name in "abc")
    weighted = [layers.Rescaling(s)(t) for s, t in ((1, a), (10, b), (100, c))]
    return a, b, c, layers.Add()(weighted)


NESTED = {
    "list": (lambda a, b, c: [a, [b, c]]),
    "tuple": (lambda a, b, c: ((a, b), c)),
    "dict of lists": (lambda a, b, c: {"a": a, "q": [b, c]}),
    "dict of dicts": (lambda a, b, c: {"a": a, "q": {"c": c, "b": b}}),
    "tuple of dict": (lambda a, b, c: (a, {"b": b, "c": c})),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", NESTED)
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_samples_are_nested_as_the_inputs_are(tmp_path, form):
    nest, path = NESTED[form], tmp_path / "m.tflite"
    a, b, c, total = abc()
    model = keras.Model(nest(a, b, c), total)
    x, y, z = (samples(4, seed=seed) for seed in range(3))
    for given in (
        nest(x, y, z),
        nest(x.tolist(), y, z),
        {"c": z, "a": x, "b": y},
    ):
        export(model, path, given)
        names, outputs = run(path, x, y, z)
        assert names == ["a", "b", "c"]
        close(outputs["output_0"], x + 10 * y + 100 * z)
    with pytest.raises(ValueError, match="nested as.*3 inputs. Received: 2"):
        export(model, path, [x, y])


class Nested(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs["class"] - inputs["more"][0] + 2 * inputs["more"][1])


def test_a_subclassed_model_of_nested_inputs(tmp_path):
    model, path = Nested(), tmp_path / "m.tflite"
    x, y, z = (samples(4, seed=seed) for seed in range(3))
    model({"class": x, "more": [y, z]})
    export(model, path, {"class": x, "more": [y, z]})
    names, outputs = run(path, x, y, z)
    assert names == ["class_", "more_0", "more_1"]
    close(outputs["output_0"], model({"class": x, "more": [y, z]}))


def rows(x):
    boxed = np.empty(len(x), object)
    for i, row in enumerate(x):
        boxed[i] = row
    return boxed


@pytest.mark.parametrize(
    "form",
    [lambda x: x.astype(object), rows, list, lambda x: x.tolist(), lambda x: [x]],
)
def test_samples_of_any_form(tmp_path, form):
    model, x, path = dense_net(4), samples(4), tmp_path / "m.tflite"
    export(model, path, form(x))
    close(run(path, x)[1]["output_0"], model(x))


@pytest.mark.parametrize(
    "bad",
    [
        np.array([["a", "b", "c", "d"]]),
        np.array([["a", "b", "c", "d"]], object),
        np.array([[1, 2, 3, None]], object),
        rows([np.ones(4), np.ones(3)]),
    ],
    ids=["text", "objects of text", "None inside", "ragged"],
)
def test_samples_that_are_no_numbers(tmp_path, bad):
    with pytest.raises(ValueError, match="array of numbers.*Received: samples of type"):
        export(dense_net(4), tmp_path / "m.tflite", bad)
    assert not list(tmp_path.iterdir())
