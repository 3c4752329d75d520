"""Which of the correct files is handed out."""

from __future__ import annotations

from collections.abc import Mapping

from scl_keras.export.candidates import Trial

GOALS = ("balanced", "size", "latency")

# Times this close together are the same: what is left is noise.
_SAME_TIME = 1.03

# Bytes this close together are worth less than time.
_SAME_SIZE = 1.01


class ExportError(RuntimeError):
    """No file could be made that computes what the model computes."""


def choose(
    trials: list[Trial], optimize_for: str, milliseconds: Mapping[str, float]
) -> Trial:
    """Returns the best of the correct files.

    Args:
        trials: What was tried.
        optimize_for: "size": the fewest bytes, and the shortest time of those within
            1 % of it. "latency": the shortest time, and the fewest bytes of those
            within 3 % of it. "balanced": the smallest product of bytes and time, so
            that half the bytes are worth as much as half the time.
        milliseconds: Time of one inference by name; empty if not measured: then bytes
            count, and the first of those within 1 % of the fewest is taken.

    Returns:
        The chosen trial, of equal ones the first.

    Raises:
        ExportError: If no file is correct.
    """
    correct = [trial for trial in trials if trial.correct]
    if not correct:
        reasons = "\n".join(f"- {trial.name}: {trial.problem}" for trial in trials)
        raise ExportError(
            "No TFLite file computes what the Keras model computes; nothing was "
            f"written. Tried:\n{reasons}"
        )
    if optimize_for == "balanced" and milliseconds:
        return min(correct, key=lambda t: len(t.file) * milliseconds[t.name])
    if optimize_for == "latency" and milliseconds:
        enough = _SAME_TIME * min(milliseconds[t.name] for t in correct)
        fast = [t for t in correct if milliseconds[t.name] <= enough]
        return min(fast, key=lambda t: len(t.file))
    enough = _SAME_SIZE * min(len(t.file) for t in correct)
    small = [t for t in correct if len(t.file) <= enough]
    return min(small, key=lambda t: milliseconds.get(t.name, 0))
