"""Sparse training for Keras 3: learn which connections of a network matter.

What most programs need is here. The rest is in the subpackages: `architectures`,
`callbacks`, `connectivity`, `conversion`, `datasets`, `export`, `layers`, `masks`,
`pipeline`, `plotting`, `pruning`, `report`, `switcher`, `targets`, `training` and
`zoo`. Only the names that they and this package list in `__all__` are public.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from scl_keras._version import __version__


def _is_sought_as_program() -> bool:
    """Whether Python is looking for `__main__.py`, for `python -m scl_keras`.

    It imports the package for that, with "-m" in front of the arguments.
    """
    if sys.argv[:1] != ["-m"]:
        return False
    return sys.orig_argv[-len(sys.argv)].removeprefix("-m") == __name__


# Then `--help` is to answer at once: what a command needs is imported when it runs (see
# `command_line/main.py`).
if not _is_sought_as_program():
    from scl_keras.callbacks import (
        AfterTarget,
        FreezeMasks,
        SafeBackup,
        TargetAccuracy,
        TargetSparsity,
    )
    from scl_keras.connectivity import compact, effective_masks
    from scl_keras.conversion import sparsify, strip_masks, stripped
    from scl_keras.layers import MaskedConv2D, MaskedDense
    from scl_keras.masks import Block, Channel, find_masks, thaw_masks
    from scl_keras.pruning import GradualPruning, prune
    from scl_keras.report import summary
    from scl_keras.switcher import SwitcherModel
    from scl_keras.targets import check_target
    from scl_keras.training import SCLModel

if TYPE_CHECKING:
    from scl_keras.export import export_tflite
    from scl_keras.pipeline import compress

__all__ = [
    "AfterTarget",
    "Block",
    "Channel",
    "FreezeMasks",
    "GradualPruning",
    "MaskedConv2D",
    "MaskedDense",
    "SCLModel",
    "SafeBackup",
    "SwitcherModel",
    "TargetAccuracy",
    "TargetSparsity",
    "__version__",
    "check_target",
    "compact",
    "compress",
    "effective_masks",
    "export_tflite",
    "find_masks",
    "prune",
    "sparsify",
    "strip_masks",
    "stripped",
    "summary",
    "thaw_masks",
]

_MODULES = (
    "architectures",
    "callbacks",
    "connectivity",
    "conversion",
    "datasets",
    "export",
    "layers",
    "masks",
    "pipeline",
    "plotting",
    "pruning",
    "report",
    "switcher",
    "targets",
    "training",
    "zoo",
)
# What imports TensorFlow or matplotlib is only imported where it is used.
_LATER = {"compress": "pipeline", "export_tflite": "export"}
# Names that belong to subpackages, and can be had from here, too.
_ELSEWHERE = {
    "callbacks": (
        "ConnectionCostScheduler",
        "EffectiveSparsityLogger",
        "MaskLogger",
        "TargetBytes",
        "TargetSpeed",
        "ramp",
    ),
    "connectivity": (
        "CompactionReport",
        "ConnectionGraph",
        "LayerRule",
        "compaction_report",
        "register_rule",
        "stand_in",
    ),
    "conversion": ("fix_masks", "unmasked_layers"),
    "export": ("ExportError", "ExportReport", "read_metadata"),
    "layers": ("MaskedKernel", "MaskedLayer"),
    "masks": (
        "NM",
        "STE",
        "Connection",
        "Granularity",
        "Identity",
        "LeakyReLU",
        "Mask",
        "Softplus",
        "freeze_masks",
    ),
    "pipeline": ("Compressed",),
    "pruning": (
        "ConstantSparsity",
        "DisconnectedError",
        "PolynomialDecay",
        "PruningMethod",
        "WeightRewinding",
        "from_tf_keras",
    ),
    "report": ("SparsitySummary", "check_groups"),
    "switcher": ("FEATURES", "SwitcherOptimizer", "TurnsByEpoch", "switcher_network"),
    "targets": ("TargetCheck", "fit_to_target"),
    "training": (
        "Distiller",
        "GradientNormalization",
        "OutputDistillation",
        "SCLOptimizer",
        "SCLSequential",
    ),
}
_LATER |= {name: module for module, names in _ELSEWHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"scl_keras.{_LATER[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"scl_keras.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
