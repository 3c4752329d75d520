"""One mask over one kernel: its variable, its estimator, and what it switches."""

from scl_keras.masks.freezing import freeze_masks, thaw_masks
from scl_keras.masks.granularity import NM, Block, Channel, Connection, Granularity
from scl_keras.masks.mask import Mask, find_masks
from scl_keras.masks.start import start_from_magnitudes
from scl_keras.masks.ste import STE, Identity, LeakyReLU, Softplus

__all__ = [
    "NM",
    "STE",
    "Block",
    "Channel",
    "Connection",
    "Granularity",
    "Identity",
    "LeakyReLU",
    "Mask",
    "Softplus",
    "find_masks",
    "freeze_masks",
    "start_from_magnitudes",
    "thaw_masks",
]
