"""The training step, the optimizer of weights and masks, and the update rule."""

from scl_keras.training.distiller import Distiller
from scl_keras.training.model import SCLModel, SCLSequential
from scl_keras.training.normalization import GradientNormalization
from scl_keras.training.optimizer import SCLOptimizer
from scl_keras.training.teaching import OutputDistillation

__all__ = [
    "Distiller",
    "GradientNormalization",
    "OutputDistillation",
    "SCLModel",
    "SCLOptimizer",
    "SCLSequential",
]
