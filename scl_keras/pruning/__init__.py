"""Pruning: masks found from weights, gradients or paths, instead of learned."""

from scl_keras.pruning.effective import DisconnectedError
from scl_keras.pruning.gradual import GradualPruning
from scl_keras.pruning.methods import (
    LAMP,
    SNIP,
    IterativeSNIP,
    Magnitude,
    PruningMethod,
    Random,
    SynFlow,
    get_method,
)
from scl_keras.pruning.network import PrunableNetwork
from scl_keras.pruning.prune import prune
from scl_keras.pruning.quotas import (
    ERK,
    IGQ,
    Uniform,
    UniformPlus,
    get_quotas,
    quota_counts,
)
from scl_keras.pruning.rewinding import WeightRewinding
from scl_keras.pruning.schedules import ConstantSparsity, PolynomialDecay
from scl_keras.pruning.tfmot import from_tf_keras

__all__ = [
    "ERK",
    "IGQ",
    "LAMP",
    "SNIP",
    "ConstantSparsity",
    "DisconnectedError",
    "GradualPruning",
    "IterativeSNIP",
    "Magnitude",
    "PolynomialDecay",
    "PrunableNetwork",
    "PruningMethod",
    "Random",
    "SynFlow",
    "Uniform",
    "UniformPlus",
    "WeightRewinding",
    "from_tf_keras",
    "get_method",
    "get_quotas",
    "prune",
    "quota_counts",
]
