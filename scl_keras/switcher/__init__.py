"""The switcher network: connections switched by what is learned of the weights."""

from scl_keras.switcher.features import FEATURES
from scl_keras.switcher.model import SwitcherModel
from scl_keras.switcher.network import switcher_network
from scl_keras.switcher.optimizer import SwitcherOptimizer
from scl_keras.switcher.turns import TurnsByEpoch

__all__ = [
    "FEATURES",
    "SwitcherModel",
    "SwitcherOptimizer",
    "TurnsByEpoch",
    "switcher_network",
]
