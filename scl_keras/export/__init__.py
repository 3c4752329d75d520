"""Write a trained model as the best TFLite file that is still right, and verify others.

`export_tflite` (tflite.py) fits the samples to the model (samples.py, names.py), lets
Keras answer them (reference.py), tries all candidates (trials.py), and puts the best at
its path (outcome.py). A candidate (candidates.py) is what the converter makes of the
model (converter.py) in one of the precisions (precisions.py) and encodings
(encodings.py). It is right if it holds the weights of the model (weights.py,
right_weights.py) and computes the same (verification.py), and may be chosen if it gets
as many labels right (accuracy.py).

`verify_tflite` (verify_file.py) runs files of others likewise (file_verification.py has
what it finds): those that can be read (file_contents.py), that don't end the process
(first_run.py), and whose inputs and outputs are known (foreign_file.py, ports.py).
"""

from scl_keras.export.file_verification import FileVerification as FileVerification
from scl_keras.export.file_verification import RunDifference as RunDifference
from scl_keras.export.metadata import read_metadata as read_metadata
from scl_keras.export.outcome import ExportError as ExportError
from scl_keras.export.report import ExportReport as ExportReport
from scl_keras.export.tflite import export_tflite as export_tflite
from scl_keras.export.verify_file import verify_tflite as verify_tflite

__all__ = [
    "ExportError",
    "ExportReport",
    "FileVerification",
    "RunDifference",
    "export_tflite",
    "read_metadata",
    "verify_tflite",
]
