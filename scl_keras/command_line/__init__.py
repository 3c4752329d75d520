"""The command line, `python -m scl_keras`: a file a command.

A command has a `SUMMARY` of one line, a `DESCRIPTION`, `add_flags`, and `run`, which
returns an `Outcome`. What it needs it imports when it runs, so that `--help` doesn't
wait for TensorFlow.
"""
