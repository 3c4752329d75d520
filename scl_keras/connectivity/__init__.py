"""What is really connected: effective sparsity of any Keras graph."""

from scl_keras.connectivity.reachability import ConnectionGraph, effective_masks
from scl_keras.connectivity.stand_ins import stand_in

__all__ = ["ConnectionGraph", "effective_masks", "stand_in"]
