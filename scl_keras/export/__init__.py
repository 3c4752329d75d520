"""Write a trained model as the best TFLite file that is still right."""

from scl_keras.export.metadata import read_metadata as read_metadata
from scl_keras.export.outcome import ExportError as ExportError
from scl_keras.export.report import ExportReport as ExportReport
from scl_keras.export.tflite import export_tflite as export_tflite

__all__ = ["ExportError", "ExportReport", "export_tflite", "read_metadata"]
