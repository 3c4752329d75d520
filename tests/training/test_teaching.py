"""Distillation by what outputs are."""

import keras
import numpy as np
import pytest
from keras import ops

from scl_keras.training.teaching import OutputDistillation, kind_of


def loss(kind, teacher, student, **options):
    found = OutputDistillation(kind, **options).compute_loss(teacher, student)
    return float(ops.convert_to_numpy(found))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.fixture
def pair(rng):
    return rng.normal(size=(2, 6, 5)).astype("float32")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_logits_by_the_formula(pair, temperature):
    p, q = softmax(pair[0] / temperature), softmax(pair[1] / temperature)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=-1))
    found = loss("logits", *pair, temperature=temperature)
    assert found == pytest.approx(expected, rel=1e-4)


def test_logits_as_keras_does(pair):
    # By its name, as it is by default, Keras 3.15 takes the divergence of the logits
    # themselves.
    stock = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence())
    expected = float(stock.compute_loss(*pair))
    assert loss("logits", *pair) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["logits", "probabilities", "logit", "probability"])
def test_the_same_of_logits_and_of_probabilities(pair, kind):
    teacher, student = pair
    if kind in ("logits", "probabilities"):
        expected = loss("logits", teacher, student)
        found = loss("probabilities", softmax(teacher), softmax(student))
    else:
        expected = loss("logit", teacher, student)
        found = loss(
            "probability", 1 / (1 + np.exp(-teacher)), 1 / (1 + np.exp(-student))
        )
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "kind", ["logits", "probabilities", "logit", "probability", "values"]
)
def test_it_is_least_where_both_agree(pair, kind):
    teacher, student = pair
    if kind.startswith("prob"):
        teacher, student = softmax(teacher), softmax(student)
    assert loss(kind, teacher, teacher) == pytest.approx(0, abs=1e-5)
    assert loss(kind, teacher, student) > 1e-3


def test_certain_answers_stay_finite():
    certain = np.eye(3, dtype="float32")
    assert np.isfinite(loss("probabilities", certain, certain[::-1].copy()))
    assert np.isfinite(loss("probability", certain, 1 - certain))


def test_several_outputs(pair):
    found = loss(["logits", "values"], list(pair), list(pair[::-1]))
    expected = loss("logits", pair[0], pair[1]) + loss("values", pair[1], pair[0])
    assert found == pytest.approx(expected / 2, rel=1e-5)
    with pytest.raises(ValueError, match="each of 2 outputs"):
        loss(["logits"], list(pair), list(pair))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("sparse_categorical_crossentropy", "probabilities"),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "logits"),
        (keras.losses.CategoricalCrossentropy(), "probabilities"),
        (keras.losses.CategoricalFocalCrossentropy(from_logits=True), "logits"),
        (keras.losses.categorical_crossentropy, "probabilities"),
        ("binary_crossentropy", "probability"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "logit"),
        ("mse", "values"),
        (keras.losses.Huber(), "values"),
        (lambda y, p: y, "values"),
    ],
)
def test_what_a_loss_is_for(given, kind):
    assert kind_of(given) == kind


def test_config():
    made = OutputDistillation(["logits", "values"], temperature=2.0)
    again = OutputDistillation.from_config(made.get_config())
    assert again.get_config() == made.get_config()


@pytest.mark.parametrize("options", [{"kind": "x"}, {"kind": []}, {"temperature": 0}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match="must be"):
        OutputDistillation(**options)
