"""The encodings that are tried, and which of them is handed out.

A new encoding is a new entry of `CANDIDATES`: a function from the converter's
files (a `Source`) to the bytes of a file. Nothing it does has to be trusted,
for every file is decoded, run and compared before it can be chosen.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from scl_keras.export.convert import Source
from scl_keras.export.csr import encode_csr
from scl_keras.export.reference import Reference
from scl_keras.export.tensors import Weights, read_weights
from scl_keras.export.verify import Verification, verify

CANDIDATES: dict[str, Callable[[Source], bytes]] = {
    "sparse": lambda source: source.sparse,
    "csr": lambda source: encode_csr(source.dense),
    "dense": lambda source: source.dense,
}


class ExportError(RuntimeError):
    """No file could be made that computes what the model computes."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A candidate's file and what came of it.

    Without `problem` the file is correct. One that is not `needed` has no sparse
    kernel, and so is the dense file over again.
    """

    candidate: str
    file: bytes | None
    weights: tuple[Weights, ...] = ()
    verification: Verification | None = None
    problem: str | None = None
    needed: bool = True

    @property
    def correct(self) -> bool:
        """Whether the file may be handed out."""
        return self.problem is None


def try_candidates(
    source: Source,
    reference: Reference,
    tolerance: float,
    candidates: Mapping[str, Callable[[Source], bytes]] | None = None,
) -> list[Trial]:
    """Makes and checks every candidate.

    Args:
        source: The converter's files.
        reference: What the model computes on the samples.
        tolerance: Largest difference, as a share of the largest output.
        candidates: Functions by name; `CANDIDATES` by default.

    Returns:
        One trial a candidate, correct or not.
    """
    candidates = CANDIDATES if candidates is None else candidates
    trials = []
    for name, make in candidates.items():
        try:
            file = make(source)
        # Converter and schema raise anything from ValueError to their own
        # types; whatever it is, this candidate is out and the next one is due.
        except Exception as error:
            problem = f"could not be made: {_first_line(error)}"
            trials.append(Trial(name, None, problem=problem))
            continue
        trials.append(_check(name, file, source, reference, tolerance))
    return trials


def choose(trials: list[Trial]) -> Trial:
    """Returns the correct file with the fewest bytes.

    Args:
        trials: What was tried.

    Returns:
        The smallest correct trial, of equal ones the first.

    Raises:
        ExportError: If there is none.
    """
    correct = [trial for trial in trials if trial.correct]
    if not correct:
        reasons = "\n".join(f"- {trial.candidate}: {trial.problem}" for trial in trials)
        raise ExportError(
            "No TFLite file computes what the Keras model computes; nothing was "
            f"written. Tried:\n{reasons}"
        )
    return min(correct, key=lambda trial: len(trial.file))


def _check(name, file, source, reference, tolerance) -> Trial:
    try:
        weights = tuple(read_weights(file))
    # Neither is run: wrong indices make the runtime read outside of its memory.
    except ValueError as error:
        return Trial(name, file, problem=f"is encoded wrong: {error}")
    except Exception as error:  # whatever the flatbuffer reader stumbles over
        return Trial(name, file, problem=f"is no TFLite file: {_first_line(error)}")
    if name != "dense":
        if all(kernel.encoding == "dense" for kernel in weights):
            problem = "no kernel is sparse enough to become smaller"
            return Trial(name, file, weights, problem=problem, needed=False)
        lost = _lost_weights(weights, read_weights(source.dense))
        if lost:
            return Trial(name, file, weights, problem=lost)
    verification = verify(file, reference, tolerance)
    return Trial(name, file, weights, verification, verification.problem)


def _lost_weights(weights, dense) -> str | None:
    """Returns what is wrong with the decoded weights, if anything is.

    Encoding rounds nothing, so every weight must be there to the last bit. A
    run on samples cannot tell a small weight that is missing from rounding.
    """
    expected = Counter(map(_content, dense))
    for kernel in weights:
        if kernel.encoding != "dense" and not expected[_content(kernel)]:
            return (
                f"is encoded wrong: {kernel.name!r} of shape {kernel.values.shape} "
                f"does not hold the model's weights"
            )
    return None


def _content(kernel: Weights) -> tuple[tuple[int, ...], bytes]:
    # Adding zero makes -0.0 (a negative weight times its mask) an ordinary zero.
    return kernel.values.shape, np.add(kernel.values, 0.0).tobytes()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
