"""Rules of layers that only do something in training."""

import dataclasses

from scl_keras.connectivity.channel_rules import ELEMENTWISE
from scl_keras.connectivity.layer_rules import register_rule
from scl_keras.connectivity.layer_types import layers_named, layers_of_ranks


def _shrink_noise_shape(layer, weights, kept):
    """One of known sizes has an entry for each channel."""
    if layer.noise_shape is None:
        return {}, weights
    sizes = list(layer.noise_shape)
    if sizes[kept.axis] == len(kept.outputs):
        sizes[kept.axis] = kept.units
    return {"noise_shape": tuple(sizes)}, weights


register_rule(
    *layers_named("Dropout", "AlphaDropout"),
    rule=dataclasses.replace(ELEMENTWISE, shrink=_shrink_noise_shape),
)

register_rule(
    *layers_named("GaussianDropout", "GaussianNoise"),
    *layers_named("ActivityRegularization"),
    *layers_of_ranks("SpatialDropout{}D"),
    rule=ELEMENTWISE,
)
