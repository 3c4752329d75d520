"""Run a TFLite file and compare it with Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

# LiteRT's own package: `tf.lite.Interpreter` is deprecated in its favour.
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from scl_keras.export.labels import accuracy
from scl_keras.export.reference import Batch, Reference

_RESOLVERS = {
    "default delegate": OpResolverType.AUTO,
    "no delegate": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far one output of a file is from Keras, over all samples.

    Attributes:
        output: Name of the output in the file's signature.
        delegate: "default delegate" (XNNPACK) or "no delegate".
        largest: Largest absolute difference.
        mean: Mean absolute difference.
        scale: Largest absolute value that Keras computes for the output.
        agreement: Share of samples (positions, for a map) whose largest entry on
            the last axis is the same; None for an output with a single entry.
    """

    output: str
    delegate: str
    largest: float
    mean: float
    scale: float
    agreement: float | None

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest value."""
        return self.largest / (self.scale or 1.0)


@dataclasses.dataclass(frozen=True)
class Verification:
    """The differences of a file, and the sentence on what is wrong with it.

    `accuracy` is that with the default delegate, if labels are given, `tolerance` the
    largest relative difference that was allowed.
    """

    differences: tuple[Difference, ...]
    problem: str | None = None
    accuracy: float | None = None
    tolerance: float | None = None


def verify(
    file: bytes,
    reference: Reference,
    tolerance: float,
    labels: np.ndarray | None = None,
    shuffled: bool = True,
) -> Verification:
    """Loads a file, runs it with and without the delegate, and compares.

    Args:
        file: The bytes of a TFLite file.
        reference: Inputs and what Keras makes of them.
        tolerance: Largest difference, as a share of the largest output.
        labels: Labels of the samples, for the accuracy.
        shuffled: Whether to compare on shuffled inputs as well.

    Returns:
        The differences, with `problem` set if the file cannot be handed out.
    """
    differences: list[Difference] = []
    found_accuracy = None
    for delegate, resolver in _RESOLVERS.items():
        try:
            answers = _run(file, reference.batches, resolver)
        # The runtime reports an unusable file by RuntimeError, ValueError or
        # TypeError, depending on where it notices.
        except Exception as error:
            reason = " ".join(str(error).split())
            return Verification(
                tuple(differences), f"does not run with {delegate}: {reason}"
            )
        for probe in (False, True) if shuffled else (False,):
            pairs = [
                (batch, answer)
                for batch, answer in zip(reference.batches, answers, strict=True)
                if batch.probe == probe
            ]
            for name in pairs[0][0].outputs if pairs else ():
                found = _compare(name, delegate, pairs)
                if not found.relative <= tolerance:  # NaN is wrong as well
                    inputs = "shuffled inputs" if probe else "the samples"
                    return Verification(
                        tuple(differences),
                        f"computes something else on {inputs} with {delegate}: "
                        f"output {name!r} is off by {found.largest:.3g}, "
                        f"{found.relative:.2g} of its largest value",
                    )
                if not probe:
                    differences.append(found)
        if labels is not None and found_accuracy is None:
            found_accuracy = accuracy(labels, reference, answers)
    return Verification(
        tuple(differences), accuracy=found_accuracy, tolerance=tolerance
    )


def answers_of(file: bytes, reference: Reference) -> Reference:
    """Returns the reference with a file's answers instead of Keras's."""
    answers = _run(file, reference.batches, OpResolverType.AUTO)
    batches = tuple(
        dataclasses.replace(batch, outputs=answer)
        for batch, answer in zip(reference.batches, answers, strict=True)
    )
    return dataclasses.replace(reference, batches=batches)


def open_interpreter(
    file: bytes, resolver: OpResolverType = OpResolverType.AUTO
) -> Interpreter:
    """Returns a single-threaded interpreter of a file."""
    return Interpreter(
        model_content=file, num_threads=1, experimental_op_resolver_type=resolver
    )


def _run(file, batches: Iterable[Batch], resolver) -> list[dict[str, np.ndarray]]:
    run = open_interpreter(file, resolver).get_signature_runner()
    return [run(**batch.inputs) for batch in batches]


def _compare(name, delegate, pairs) -> Difference:
    """Compares one output over all batches."""
    distances, largest_entries, scale = [], [], 0.0
    for batch, answer in pairs:
        expected, found = batch.outputs[name], answer[name]
        if expected.shape != found.shape:
            return Difference(name, delegate, np.nan, np.nan, scale, None)
        # Integers and booleans too: as float64 they are compared exactly.
        wide, found_wide = expected.astype(np.float64), found.astype(np.float64)
        scale = max(scale, np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
        with np.errstate(invalid="ignore"):  # equal infinities agree
            distance = np.where(wide == found_wide, 0.0, np.abs(wide - found_wide))
        distances.append(distance.ravel())
        if expected.ndim > 1 and expected.shape[-1] > 1:
            same = expected.argmax(-1) == found.argmax(-1)
            largest_entries.append(same.ravel())
    distance = np.concatenate(distances)
    agreement = np.concatenate(largest_entries).mean() if largest_entries else None
    return Difference(
        output=name,
        delegate=delegate,
        largest=float(distance.max(initial=0.0)),
        mean=float(distance.mean()) if distance.size else 0.0,
        scale=float(scale),
        agreement=None if agreement is None else float(agreement),
    )
