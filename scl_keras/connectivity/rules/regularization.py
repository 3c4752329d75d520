"""Rules of layers that only do something in training."""

from scl_keras.connectivity.channel_rules import ELEMENTWISE
from scl_keras.connectivity.layer_rules import register_rule
from scl_keras.connectivity.layer_types import layers_named, layers_of_ranks

register_rule(
    *layers_named("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *layers_named("ActivityRegularization"),
    *layers_of_ranks("SpatialDropout{}D"),
    rule=ELEMENTWISE,
)
