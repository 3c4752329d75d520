"""Pictures of masks and of their learning."""

from typing import Any, cast

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scl_keras import checks
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.report.style import (
    QUIET,
    STRONG,
    end_labels,
    in_words,
    new_axes,
    share_bars,
    styled,
)

__all__ = ["plot_densities", "plot_input_mask", "plot_kept", "plot_training"]

_PREFIX = "density/"


@styled
def plot_densities(
    history: keras.callbacks.History | dict[str, Any], axes: Axes | None = None
) -> Figure:
    """Draws each layer's density over training, on a logarithmic axis.

    Args:
        history: What `fit` returned, trained with the `MaskLogger` callback, or its
            `history` dict.
        axes: Matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If the history is none, or holds no densities.

    Example:

    ```python
    history = model.fit(x, y, epochs=9, callbacks=[MaskLogger()])
    plot_densities(history).savefig("densities.png")
    ```
    """
    logs = getattr(history, "history", history)
    if not isinstance(logs, dict):
        raise checks.refusal("history", history, "what `fit` returned, or its dict")
    curves = {k: v for k, v in logs.items() if k.startswith(_PREFIX)}
    if not curves:
        raise ValueError(
            "The history holds no densities: train with the `MaskLogger` callback. "
            f"Received keys: {sorted(logs)}"
        )
    axes = axes or new_axes(7, 4.5)
    few = len(curves) <= 8  # more names would bury the curves
    ends = []
    for key, values in curves.items():
        color = axes.plot(_epochs(values), values, color=None if few else QUIET)[0]
        name = key.removeprefix(_PREFIX)
        ends.append((len(values), values[-1], name, str(color.get_color())))
    ends = ends if few else []
    if "density" in logs:
        total = logs["density"]
        axes.plot(_epochs(total), total, color=STRONG, linewidth=2.5)
        ends.append((len(total), total[-1], "all layers", STRONG))
    axes.set(xlabel="epoch", title="Share of connections kept", yscale="log")
    in_words(axes.yaxis, lambda share: f"{100 * share:g}%")
    end_labels(axes, ends)
    return cast(Figure, axes.figure)


def _epochs(values):
    return range(1, len(values) + 1)


@styled
def plot_input_mask(model: keras.Model, axes: Axes | None = None) -> Figure:
    """Draws how many connections of the first dense layer each input pixel keeps.

    Args:
        model: A built Keras model on images whose first prunable layer is dense, masked
            or with zeros in its kernel.
        axes: Matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If the model isn't built, or its first layer isn't dense on the
            inputs as they are.

    Example:

    ```python
    plot_input_mask(model).savefig("input_mask.png")
    ```
    """
    checks.built_model("plot_input_mask", model)
    image_shape = tuple(model.inputs[0].shape[1:])
    kernel = next(iter(prunable_kernels(model)), None)
    if (
        kernel is None
        or isinstance(kernel.layer, keras.layers.Embedding)  # rows are words
        or len(kernel.shape) != 2
        or None in image_shape
        or kernel.shape[0] != np.prod(image_shape)
    ):
        raise ValueError(
            "An input mask needs a dense first layer on all input pixels. Received: "
            f"inputs of shape {image_shape}, first kernel "
            f"{None if kernel is None else kernel.shape}"
        )
    counts = kernel.kept().sum(axis=1).reshape(_as_image(image_shape))
    if counts.ndim == 3:
        counts = counts.sum(axis=-1)
    axes = axes or new_axes(4.5, 4)
    picture = axes.imshow(counts, cmap="magma")
    axes.set_title(f"Connections kept of each input\n{kernel.label}")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.figure.colorbar(picture, ax=axes, shrink=0.8)
    return cast(Figure, axes.figure)


@styled
def plot_kept(model: keras.Model, axes: Axes | None = None) -> Figure:
    """Draws how many connections each layer keeps, of how many.

    Args:
        model: A built Keras model, masked or with zeros in its kernels.
        axes: Matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If the model isn't built.

    Example:

    ```python
    plot_kept(model).savefig("kept.png")
    ```
    """
    checks.built_model("plot_kept", model)
    kernels = prunable_kernels(model)
    axes = axes or new_axes(7, 1 + 0.3 * len(kernels))
    shares, notes = {}, {}
    for kernel in kernels:
        kept = kernel.kept()
        shares[kernel.label] = kept.mean()
        notes[kernel.label] = f"{kept.sum():,} of {kept.size:,}"
    share_bars(axes, shares, notes)
    axes.set_title("Connections kept")
    return cast(Figure, axes.figure)


@styled
def plot_training(model: keras.Model, history: keras.callbacks.History) -> Figure:
    """One picture of a training: densities, loss and accuracy, and what is left.

    Args:
        model: The trained model.
        history: What its `fit` returned, with the `MaskLogger` callback.

    Returns:
        The matplotlib `Figure`: two rows of two.

    Raises:
        ValueError: If `model` is no model or `history` no `History`, or there are no
            densities in it.

    Example:

    ```python
    history = model.fit(x, y, epochs=9, callbacks=[MaskLogger()])
    plot_training(model, history).savefig("training.png")
    ```
    """
    checks.built_model("plot_training", model)
    if not isinstance(history, keras.callbacks.History):
        raise checks.refusal("history", history, "the `History` that `fit` returned")
    figure = Figure(figsize=(12, 8.5))
    top, bottom = figure.subplots(2, 2)
    plot_densities(history, top[0])
    _plot_metrics(history.history, top[1])
    plot_kept(model, bottom[0])
    try:
        plot_input_mask(model, bottom[1])
    except ValueError:  # the first layer isn't dense
        bottom[1].remove()
    return figure


def _plot_metrics(logs, axes):
    """Draws accuracies, or the loss where there are none."""
    keys = [key for key in logs if key.endswith("accuracy")] or ["loss"]
    ends = []
    for key in keys:
        values = logs[key]
        color = STRONG if key == keys[-1] else QUIET
        axes.plot(_epochs(values), values, color=color)
        ends.append((len(values), values[-1], key, color))
    axes.set(xlabel="epoch", title=", ".join(keys))
    end_labels(axes, ends)


def _as_image(shape):
    """Rows and columns to draw inputs of a shape in: a vector is one row."""
    return (1, *shape) if len(shape) == 1 else shape
