"""What a runtime can make faster, and models made for it."""

from scl_keras.targets.check import RUNTIMES, KernelCheck, TargetCheck, check_target
from scl_keras.targets.fit import fit_to_target

__all__ = ["RUNTIMES", "KernelCheck", "TargetCheck", "check_target", "fit_to_target"]
