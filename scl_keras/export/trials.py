"""Candidates that are tried on a model: each is made, and found right or wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from scl_keras.export.accuracy import AccuracyDrop, Labels
from scl_keras.export.candidates import CONVERTER_SPARSE, Candidate
from scl_keras.export.converter import ConvertedFiles, NotNeeded
from scl_keras.export.metadata import add_metadata
from scl_keras.export.precisions import FLOAT32
from scl_keras.export.reference import Reference
from scl_keras.export.right_weights import badly_rounded, lost_weights
from scl_keras.export.verification import (
    Expectation,
    Verification,
    answers_of,
    verify,
)
from scl_keras.export.weights import Weights, read_weights


@dataclasses.dataclass(frozen=True)
class Trial:
    """A candidate's file, and what came of it.

    Attributes:
        candidate: What was tried.
        file: The bytes of its file; None if it could not be made.
        weights: What the file holds, as far as it could be read.
        verification: What a run of it has shown; None if it was not run.
        problem: Why the file can't be handed out; None for a correct one.
        needed: False for a file that can't be better than another candidate's, which
            is no fault.
        drop: What it loses of the accuracy of Keras; None without labels.
    """

    candidate: Candidate
    file: bytes | None = None
    weights: tuple[Weights, ...] = ()
    verification: Verification | None = None
    problem: str | None = None
    needed: bool = True
    drop: AccuracyDrop | None = None

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    @property
    def made(self) -> bytes:
        """The bytes of its file, of a trial that has one."""
        if self.file is None:
            raise ValueError(f"{self.name!r} could not be made")
        return self.file

    @property
    def verified(self) -> Verification:
        """What a run has shown, of a trial that was run."""
        if self.verification is None:
            raise ValueError(f"{self.name!r} was not run")
        return self.verification

    @property
    def correct(self) -> bool:
        """Whether the file computes what the model computes, up to its precision."""
        return self.problem is None

    @property
    def loses_too_much(self) -> bool:
        """Whether its precision costs more accuracy than allowed.

        A file of float32 rounds nothing: it may lose a tie, and no accuracy.
        """
        rounds = self.candidate.precision.dtype != FLOAT32.dtype
        return rounds and self.drop is not None and self.drop.is_too_large

    @property
    def eligible(self) -> bool:
        """Whether the file may be handed out."""
        return self.correct and not self.loses_too_much


class Trials:
    """Tries candidates on one model.

    Args:
        files: The converter's files.
        reference: What the model computes on the samples.
        tolerance: Largest difference, as a share of the largest output; None for that
            of each precision.
        labels: What to measure accuracy by, or None.
    """

    def __init__(
        self,
        files: ConvertedFiles,
        reference: Reference,
        tolerance: float | None = None,
        labels: Labels | None = None,
    ):
        self._files, self._reference = files, reference
        self._tolerance, self._labels = tolerance, labels
        self._names: dict[bytes, str] = {}  # of the files so far

    def run(
        self, candidates: Sequence[Candidate], done: Callable[[str], object]
    ) -> list[Trial]:
        """Tries candidates, but for those that can't be the best any more.

        Args:
            candidates: What to try.
            done: Called with the name of each that is finished.

        Returns:
            One trial for each candidate in their order, correct or not.
        """
        trials: dict[Candidate, Trial] = {}
        for candidate in sorted(candidates, key=_rank):
            trials[candidate] = self._beaten(candidate, trials) or self._try(
                candidate, _can_win(candidate, trials)
            )
            done(candidate.name)
        return [trials[candidate] for candidate in candidates]

    def _beaten(
        self, candidate: Candidate, trials: Mapping[Candidate, Trial]
    ) -> Trial | None:
        """Returns the trial of a file that can't win; None for others.

        The same encoding of fewer weights is smaller and not slower, and what is
        unpacked when the file is loaded computes as the dense file does.
        """
        if candidate.plain or candidate.encoding == CONVERTER_SPARSE:
            return None
        if not candidate.compacted:
            twin = trials.get(dataclasses.replace(candidate, compacted=True))
            compacted = any(
                t.correct and c.compacted and c.precision is candidate.precision
                for c, t in trials.items()
            )
            # A twin with a file that wasn't needed wouldn't be here, either.
            redundant = twin and twin.file and not twin.needed and compacted
            if twin and (twin.correct or redundant):
                reason = "not tried: without dead units it would be smaller"
                return Trial(candidate, problem=reason, needed=False)
        if not candidate.encoded:
            twin = trials.get(dataclasses.replace(candidate, encoding="csr"))
            if twin and twin.correct:
                file = self._dense_file(candidate)
                if len(twin.made) < len(file):
                    reason = f"not tried: {twin.name!r} is as fast and smaller"
                    return Trial(candidate, file, problem=reason, needed=False)
        return None

    def _try(self, candidate: Candidate, can_win: bool) -> Trial:
        try:
            file = candidate.make(self._files)
            if candidate.encoded:
                self._dense_file(candidate)  # raises here what `_check` would raise
        except NotNeeded as reason:
            return Trial(candidate, problem=str(reason), needed=False)
        # Converter and schema raise anything from ValueError to their own
        # types; whatever it is, this candidate is out and the next one is due.
        except Exception as error:
            problem = f"could not be made: {_first_line(error)}"
            return Trial(candidate, problem=problem)
        same = self._names.get(file)
        if same is not None:
            problem = f"the same file as {same!r}"
            return Trial(candidate, file, problem=problem, needed=False)
        return self._check(candidate, file, can_win)

    def _check(self, candidate: Candidate, file: bytes, can_win: bool) -> Trial:
        try:
            weights = tuple(read_weights(file))
        # Neither is run: wrong indices make the runtime read outside of its memory.
        except ValueError as error:
            return Trial(candidate, file, problem=f"is encoded wrong: {error}")
        except Exception as error:  # whatever the flatbuffer reader stumbles over
            reason = f"is no TFLite file: {_first_line(error)}"
            return Trial(candidate, file, problem=reason)
        if candidate.encoded and all(w.encoding == "dense" for w in weights):
            reason = "no kernel is sparse enough for it"
            return Trial(candidate, file, weights, problem=reason, needed=False)
        self._names[file] = candidate.name
        file = add_metadata(file, _facts(candidate, weights))
        problem = self._wrong_weights(candidate, weights)
        if problem is None and not can_win:
            reason = "not run: without dead units it would be smaller"
            return Trial(candidate, file, weights, problem=reason, needed=False)
        verification = None
        if problem is None:
            verification = self._verify(candidate, file)
            problem = verification.problem
        right = None if verification is None else verification.right
        drop = None
        if self._labels is not None and right is not None:
            drop = self._labels.drop(right)
        return Trial(candidate, file, weights, verification, problem, drop=drop)

    def _dense_file(self, candidate: Candidate) -> bytes:
        """Returns the file without its encoding: it has the same weights."""
        return self._files.dense(candidate.precision, candidate.compacted)

    def _wrong_weights(
        self, candidate: Candidate, weights: Sequence[Weights]
    ) -> str | None:
        """Returns what is wrong with the decoded weights, if anything is."""
        if candidate.plain:
            return None
        if candidate.encoded:
            return lost_weights(weights, read_weights(self._dense_file(candidate)))
        if not candidate.precision.name:
            return None
        precise = self._files.dense(FLOAT32, candidate.compacted)
        return badly_rounded(weights, read_weights(precise))

    def _verify(self, candidate: Candidate, file: bytes) -> Verification:
        precision = candidate.precision
        tolerance = self._tolerance or precision.tolerance
        expectations = [Expectation(self._reference, tolerance)]
        if precision.name and precision.exact and candidate.encoded:
            # The precision's rounding is in the dense file already: from that one, the
            # encoded one may differ by no more than a sum in another order.
            answered = answers_of(self._dense_file(candidate), self._reference)
            of = "differs from its dense file: "
            expectations.append(Expectation(answered, FLOAT32.tolerance, of))
        return verify(file, expectations, self._labels, precision.shuffled)


def _can_win(candidate: Candidate, trials: Mapping[Candidate, Trial]) -> bool:
    """Whether the converter's own sparse file may be better than ours.

    It has rows or blocks, too. Where all of these are right without dead units, it is
    decoded alone: the report says if it is wrong.
    """
    compacted = [t for c, t in trials.items() if c.compacted]
    alike = [t for t in compacted if t.candidate.precision is candidate.precision]
    return candidate.encoding != CONVERTER_SPARSE or not (
        any(t.correct for t in alike) and all(t.correct or not t.needed for t in alike)
    )


def _rank(candidate: Candidate) -> tuple[bool, bool, bool]:
    """The plain file first, and what may beat others before them."""
    return not candidate.plain, not candidate.compacted, not candidate.encoded


def _facts(candidate: Candidate, weights: Sequence[Weights]) -> dict[str, str | int]:
    return {
        "candidate": candidate.name,
        "weights": sum(w.values.size for w in weights),
        "nonzero": sum(w.nonzero for w in weights),
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
