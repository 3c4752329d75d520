"""Arrays of files, as a model's data."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras.command_line.data import (
    all_data,
    random_samples,
    samples_and_labels,
    training_data,
)

X, Y = np.arange(100.0), np.arange(100)


def dense(outputs=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(outputs)])


def two():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    outputs = [layers.Dense(1, name="p")(a), layers.Dense(2, name="q")(b)]
    return keras.Model([a, b], outputs)


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


def test_four_arrays(tmp_path):
    path = saved(tmp_path, x_train=X, y_train=Y, x_val=X[:3], y_val=Y[:3])
    (x, y), (x_val, y_val) = training_data(path, dense())
    for found, array in ((x, X), (y, Y), (x_val, X[:3]), (y_val, Y[:3])):
        np.testing.assert_array_equal(found, array)


def test_two_arrays_are_parted(tmp_path):
    path = saved(tmp_path, x=X, y=Y)
    (x, y), (x_val, y_val) = training_data(path, dense())
    assert len(x_val) == 10
    assert sorted([*x, *x_val]) == X.tolist()
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(x_val, y_val)
    again = training_data(path, dense())
    np.testing.assert_array_equal(again[1][0], x_val)


TWINS = {
    "x.b": np.ones((20, 3)),
    "x.a": np.zeros((20, 2)),
    "y.q": np.ones((20, 2)),
    "y.p": np.zeros((20, 1)),
}


def test_several_inputs_and_outputs_in_the_order_of_the_model(tmp_path):
    path = saved(tmp_path, **TWINS)
    (x, y), (x_val, y_val) = training_data(path, two())
    assert [a.shape for a in [*x, *y]] == [(18, 2), (18, 3), (18, 1), (18, 2)]
    assert [a.shape for a in [*x_val, *y_val]] == [(2, 2), (2, 3), (2, 1), (2, 2)]
    x, y = all_data(path, two())
    assert [a.shape for a in x] == [(20, 2), (20, 3)]
    samples, labels = samples_and_labels(path, two(), 5)
    assert [a.shape for a in samples] == [(5, 2), (5, 3)] and labels is None
    model = two()  # Keras takes what comes
    model.compile("sgd", "mse")
    model.fit(*all_data(path, model), verbose=0)


def test_inputs_by_name_where_the_model_takes_a_dict(tmp_path):
    nested = {"a": keras.Input((2,), name="a"), "b": keras.Input((3,), name="b")}
    merged = layers.Concatenate()(list(nested.values()))
    model = keras.Model(nested, layers.Dense(1)(merged))
    path = saved(tmp_path, y=np.zeros(20), **{k: TWINS[k] for k in ("x.a", "x.b")})
    x, _ = all_data(path, model)
    assert {k: v.shape for k, v in x.items()} == {"a": (20, 2), "b": (20, 3)}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (np.array([0, 2, 1]), [0, 2, 1]),
        (np.array([[0], [2], [1]]), [0, 2, 1]),
        (np.eye(3)[[0, 2, 1]], [0, 2, 1]),
        (np.array([0, 3, 1]), None),  # there are three classes
        (np.array([0.5, 2, 1]), None),
        (np.ones((3, 3)), None),
        (np.array([0, 2]), None),  # of other samples
    ],
)
def test_class_indices(tmp_path, targets, expected):
    path = saved(tmp_path, x=np.zeros((3, 4)), y=targets)
    x, labels = samples_and_labels(path, dense(), 99)
    assert len(x) == 3
    assert (labels is None) == (expected is None)
    if expected is not None:
        assert labels.dtype == np.int64 and labels.tolist() == expected


def test_no_class_indices_for_a_regression(tmp_path):
    path = saved(tmp_path, x=np.zeros((3, 4)), y=np.array([0, 1, 0]))
    assert samples_and_labels(path, dense(1), 99)[1] is None


def test_samples_come_from_what_is_there(tmp_path):
    arrays = {"x_train": np.zeros((9, 4)), "x_val": np.ones((9, 4))}
    x, labels = samples_and_labels(saved(tmp_path, **arrays), dense(), 5)
    assert x.shape == (5, 4) and x.min() == 1 and labels is None
    np.save(tmp_path / "x.npy", np.zeros((9, 4)))
    assert samples_and_labels(str(tmp_path / "x.npy"), dense(), 5)[0].shape == (5, 4)


def test_random_samples_fit_the_model():
    a = keras.Input((2,), name="a", dtype="float16")
    ids = keras.Input((3,), name="ids", dtype="int32")
    model = keras.Model([a, ids], [a, layers.Embedding(2, 4)(ids)])
    found = random_samples(model, 7)
    assert found["a"].shape == (7, 2) and found["a"].std() > 0.1
    assert found["ids"].dtype == np.int32 and set(found["ids"].ravel()) == {0, 1}
    model(found)
    with pytest.raises(ValueError, match="give --data"):
        random_samples(keras.Sequential([keras.Input((None,))]), 7)


def test_wrong_files(tmp_path):
    for wanted in (training_data, all_data):
        for arrays in ({"a": X}, {"x": X}, {"y": Y}, {"x_train": X, "y_val": Y}):
            with pytest.raises(ValueError, match="must have the arrays x"):
                wanted(saved(tmp_path, **arrays), dense())
        for arrays in (
            {"x": X, "y": Y[:9]},
            {"x": X[:0], "y": Y[:0]},
            {"x": 3, "y": 3},
        ):
            with pytest.raises(ValueError, match="the same number of samples"):
                wanted(saved(tmp_path, **arrays), dense())
    with pytest.raises(ValueError, match="must have the arrays x, or x_val"):
        samples_and_labels(saved(tmp_path, y=Y), dense(), 5)
    objects = saved(tmp_path, x=np.array([{}, []], dtype=object))
    with pytest.raises(ValueError, match="no .npz file of plain arrays"):
        all_data(objects, dense())
    whole = (tmp_path / "data.npz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(ValueError, match="no .npz file of plain arrays"):
            all_data(objects, dense())
    dense().save(tmp_path / "model.keras")  # a zip file, too
    with pytest.raises(ValueError, match="something else than arrays"):
        all_data(str(tmp_path / "model.keras"), dense())
    with pytest.raises(FileNotFoundError):
        all_data(str(tmp_path / "none.npz"), dense())
