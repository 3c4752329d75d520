"""Callbacks that steer and report the learning of masks."""

from scl_keras.callbacks.after_target import AfterTarget
from scl_keras.callbacks.cost_schedule import ConnectionCostScheduler, ramp
from scl_keras.callbacks.effective_sparsity_logger import EffectiveSparsityLogger
from scl_keras.callbacks.freeze_masks import FreezeMasks
from scl_keras.callbacks.mask_logger import MaskLogger
from scl_keras.callbacks.safe_backup import SafeBackup
from scl_keras.callbacks.target_accuracy import TargetAccuracy
from scl_keras.callbacks.target_file import TargetBytes, TargetSpeed
from scl_keras.callbacks.target_sparsity import TargetSparsity

__all__ = [
    "AfterTarget",
    "ConnectionCostScheduler",
    "EffectiveSparsityLogger",
    "FreezeMasks",
    "MaskLogger",
    "SafeBackup",
    "TargetAccuracy",
    "TargetBytes",
    "TargetSparsity",
    "TargetSpeed",
    "ramp",
]
