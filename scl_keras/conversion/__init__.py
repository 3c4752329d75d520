"""Putting masks into a model, and taking them out."""

from scl_keras.conversion.sparsify import sparsify, unmasked_layers
from scl_keras.conversion.strip import fix_masks, strip_masks, stripped

__all__ = ["fix_masks", "sparsify", "strip_masks", "stripped", "unmasked_layers"]
