"""What can be asked of a file, for code that does without TensorFlow, too."""

DTYPES = ("float32", "float16", "int8")
"""Precisions, from fine to coarse."""

GOALS = ("balanced", "size", "latency")
"""What a file can be chosen by, see `export_tflite`."""
