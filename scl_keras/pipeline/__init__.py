"""From a trained model to the file for the phone, in one call."""

from scl_keras.pipeline.compress import compress
from scl_keras.pipeline.result import Compressed

__all__ = ["Compressed", "compress"]
