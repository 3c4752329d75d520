"""The former place of `scl_keras.report.plotting`."""

from scl_keras.report.plotting import (
    plot_densities,
    plot_input_mask,
    plot_kept,
    plot_training,
)

__all__ = ["plot_densities", "plot_input_mask", "plot_kept", "plot_training"]
