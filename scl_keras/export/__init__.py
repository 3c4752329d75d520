"""Write a trained model as a TFLite file that is smaller and still right."""

from scl_keras.export.candidates import ExportError as ExportError
from scl_keras.export.report import ExportReport as ExportReport
from scl_keras.export.tflite import export_tflite as export_tflite

__all__ = ["ExportError", "ExportReport", "export_tflite"]
