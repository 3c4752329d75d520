"""From a trained model to the file for the phone, in one call."""

from scl_keras.pipeline.result import Compressed
from scl_keras.pipeline.run import compress

__all__ = ["Compressed", "compress"]
