"""The pictures of `scl_keras.report.plotting` by a shorter name."""

from scl_keras.report.plotting import (
    plot_densities,
    plot_input_mask,
    plot_kept,
    plot_training,
)

__all__ = ["plot_densities", "plot_input_mask", "plot_kept", "plot_training"]
