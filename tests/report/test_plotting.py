import itertools

import keras
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scl_keras import MaskedConv2D, MaskedDense, find_masks
from scl_keras.report.plotting import (
    plot_densities,
    plot_input_mask,
    plot_kept,
    plot_training,
)
from scl_keras.report.style import end_labels, in_words, new_axes


def network(first_masked=True, shape=(4, 3, 2)):
    first = MaskedDense if first_masked else keras.layers.Dense
    flat = [keras.layers.Flatten()] if len(shape) > 1 else []
    layers = [keras.Input(shape), *flat, first(5, name="first")]
    return keras.Sequential([*layers, MaskedDense(2, name="last")])


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_the_input_mask_shows_what_each_pixel_keeps(channels, rng):
    shape = (4, 3, channels) if channels else (4, 3)
    model = network(shape=shape)
    kept = rng.random((np.prod(shape), 5)) < 0.3
    find_masks(model)[0].assign(kept)
    (image,) = plot_input_mask(model).axes[0].images
    expected = np.zeros((4, 3))
    for index in np.ndindex(shape):
        expected[index[:2]] += kept[np.ravel_multi_index(index, shape)].sum()
    np.testing.assert_array_equal(image.get_array(), expected)


def test_the_input_mask_of_a_stock_layer_is_where_it_is_not_zero(rng):
    model = network(first_masked=False, shape=(6,))
    kernel = rng.normal(size=(6, 5)) * (rng.random((6, 5)) < 0.5)
    model.layers[0].kernel.assign(kernel)
    (image,) = plot_input_mask(model).axes[0].images
    np.testing.assert_array_equal(image.get_array(), [(kernel != 0).sum(axis=1)])


def test_a_network_without_a_dense_first_layer_has_no_input_mask():
    layers = [keras.Input((5, 5, 1)), MaskedConv2D(2, 2), keras.layers.Flatten()]
    model = keras.Sequential([*layers, MaskedDense(2)])
    with pytest.raises(ValueError, match=r"dense first layer.*\(2, 2, 1, 2\)"):
        plot_input_mask(model)
    with pytest.raises(ValueError, match="dense first layer.*None"):
        plot_input_mask(keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]))
    words = keras.Sequential([keras.Input((3,)), keras.layers.Embedding(3, 2)])
    with pytest.raises(ValueError, match=r"dense first layer.*\(3, 2\)"):
        plot_input_mask(words)


def test_kept_has_a_bar_of_all_and_one_of_kept_for_each_kernel(rng):
    model = network()
    for mask in find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < 0.5)
    axes = plot_kept(model).axes[0]
    shares = [[bar.get_width() for bar in bars] for bars in axes.containers]
    counts = [int(mask.count()) for mask in find_masks(model)]
    assert shares == [[1, 1], [counts[0] / 120, counts[1] / 10]]
    notes = {text.get_text() for text in axes.texts}
    assert notes == {f"{counts[0]} of 120", f"{counts[1]} of 10"}
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert ["first" in labels[0], "last" in labels[1]] == [True, True]


def test_densities_are_drawn_by_layer_and_in_total():
    logs = {"density": [1, 0.5], "density/a": [1, 0.4], "density/b": [1, 0.9]}
    axes = plot_densities({**logs, "loss": [3, 2]}).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [
        *([1, 0.4], [1, 0.9]),
        [1, 0.5],
    ]
    ends = {text.get_text(): text.xy for text in axes.texts}
    assert ends == {"all layers": (2, 0.5), "a": (2, 0.4), "b": (2, 0.9)}
    assert axes.get_yscale() == "log"
    with pytest.raises(ValueError, match=r"MaskLogger.*\['loss'\]"):
        plot_densities({"loss": [1]})


@pytest.mark.parametrize("dense_first", [True, False])
def test_the_picture_of_a_training_is_written(dense_first, tmp_path):
    logs = {"loss": [2, 1], "accuracy": [0.1, 0.2], "val_accuracy": [0.1, 0.3]}
    history = keras.callbacks.History()
    history.history = {**logs, "density/a": [1, 0.4]}
    model = network()
    if not dense_first:
        model = keras.Sequential([keras.Input((3, 3, 1)), MaskedConv2D(2, 2)])
    figure = plot_training(model, history)
    figure.savefig(tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    titles = [axes.get_title("left") for axes in figure.axes]
    assert any("input" in title for title in titles) == dense_first
    drawn = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"accuracy", "val_accuracy", "a"} <= drawn


def test_names_at_the_ends_of_lines_do_not_overlap():
    axes = new_axes(6, 3)
    ends = [(1, 0.5 + 0.001 * i, f"line {i}", "k") for i in range(6)]
    axes.plot([0, 1], [0, 1])
    end_labels(axes, ends)
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    boxes.sort(key=lambda box: box.y0)
    for below, above in itertools.pairwise(boxes):
        assert below.y1 <= above.y0 + 1


@pytest.mark.parametrize("end", [3, 8, 20, 500])
def test_a_logarithmic_axis_has_marks_and_few(end):
    axes = new_axes(5, 3)
    axes.plot([1, end], [0, 1])
    axes.set_xscale("log")
    in_words(axes.xaxis, "{:g}x".format)
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [t.get_text() for t in axes.get_xticklabels()]
    shown = [t for t in shown if t and low <= float(t[:-1]) <= high]
    assert 2 <= len(shown) <= 6 and "1x" in shown
