"""Sparse training for Keras 3: learn which connections of a network matter.

Only the names listed here are public, and those of `scl_keras.layers`,
`scl_keras.report.plotting`, `scl_keras.datasets`, `scl_keras.architectures` and
`scl_keras.zoo`.
"""

import importlib

from scl_keras._version import __version__
from scl_keras.callbacks import (
    ConnectionCostScheduler,
    EffectiveSparsityLogger,
    FreezeMasks,
    MaskLogger,
    SafeBackup,
    TargetSparsity,
    ramp,
)
from scl_keras.connectivity import (
    CompactionReport,
    ConnectionGraph,
    LayerRule,
    compact,
    compaction_report,
    effective_masks,
    register_rule,
    stand_in,
)
from scl_keras.conversion.sparsify import sparsify, unmasked_layers
from scl_keras.conversion.strip import fix_masks, strip_masks, stripped
from scl_keras.layers import MaskedConv2D, MaskedDense, MaskedKernel, MaskedLayer
from scl_keras.masks.granularity import Block, Channel, Connection, Granularity
from scl_keras.masks.mask import Mask, find_masks
from scl_keras.masks.ste import STE, Identity, LeakyReLU, Softplus
from scl_keras.pruning import (
    ConstantSparsity,
    DisconnectedError,
    GradualPruning,
    PolynomialDecay,
    PruningMethod,
    WeightRewinding,
    from_tf_keras,
    prune,
)
from scl_keras.report.summary import SparsitySummary, summary
from scl_keras.switcher import (
    FEATURES,
    SwitcherModel,
    SwitcherOptimizer,
    TurnsByEpoch,
    switcher_network,
)
from scl_keras.targets import TargetCheck, check_target, fit_to_target
from scl_keras.training.model import SCLModel, SCLSequential
from scl_keras.training.normalization import GradientNormalization
from scl_keras.training.optimizer import SCLOptimizer

__all__ = [
    "FEATURES",
    "STE",
    "Block",
    "Channel",
    "CompactionReport",
    "Connection",
    "ConnectionCostScheduler",
    "ConnectionGraph",
    "ConstantSparsity",
    "DisconnectedError",
    "EffectiveSparsityLogger",
    "ExportError",
    "ExportReport",
    "FreezeMasks",
    "GradientNormalization",
    "GradualPruning",
    "Granularity",
    "Identity",
    "LayerRule",
    "LeakyReLU",
    "Mask",
    "MaskLogger",
    "MaskedConv2D",
    "MaskedDense",
    "MaskedKernel",
    "MaskedLayer",
    "PolynomialDecay",
    "PruningMethod",
    "SCLModel",
    "SCLOptimizer",
    "SCLSequential",
    "SafeBackup",
    "Softplus",
    "SparsitySummary",
    "SwitcherModel",
    "SwitcherOptimizer",
    "TargetCheck",
    "TargetSparsity",
    "TurnsByEpoch",
    "WeightRewinding",
    "__version__",
    "check_target",
    "compact",
    "compaction_report",
    "effective_masks",
    "export_tflite",
    "find_masks",
    "fit_to_target",
    "fix_masks",
    "from_tf_keras",
    "prune",
    "ramp",
    "read_metadata",
    "register_rule",
    "sparsify",
    "stand_in",
    "strip_masks",
    "stripped",
    "summary",
    "switcher_network",
    "unmasked_layers",
]

# What imports TensorFlow or matplotlib is only imported where it is used.
_OF_EXPORT = ("ExportError", "ExportReport", "export_tflite", "read_metadata")
_MODULES = ("architectures", "datasets", "export", "plotting", "zoo")


def __getattr__(name):
    if name in _OF_EXPORT:
        return getattr(importlib.import_module("scl_keras.export"), name)
    if name in _MODULES:
        return importlib.import_module(f"scl_keras.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
