"""Run a TFLite file in all settings, and compare its answers with those of Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

# LiteRT's own package: `tf.lite.Interpreter` is deprecated in its favour.
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from scl_keras.export.accuracy import Labels
from scl_keras.export.reference import Batch, Reference

_RESOLVERS = {
    "default delegate": OpResolverType.AUTO,
    "no delegate": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """How an app may run a file.

    Attributes:
        delegate: "default delegate" (XNNPACK) or "no delegate".
        threads: How many threads it gives the runtime.
        brief: Whether a few samples are run, and not all of them: threads share the
            work of any sample, so that few show whether they go wrong.
    """

    delegate: str
    threads: int = 1
    brief: bool = True

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.delegate}{threads}"


# Not among them: the reference kernels, which no phone runs and which take a hundred
# times as long, and the delegate's "latest features", which are on by default now.
SETTINGS = (
    Setting("default delegate", brief=False),
    Setting("no delegate", brief=False),
    Setting("default delegate", threads=2),
    Setting("default delegate", threads=4),
    Setting("no delegate", threads=2),
    Setting("no delegate", threads=4),
)


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

    def __str__(self) -> str:
        return (
            f"output {self.output!r} is off by {self.largest:.3g}, "
            f"{self.relative:.2g} of its largest value"
        )


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a run of a file has shown.

    Attributes:
        differences: Those to Keras, as far as the file was compared.
        problem: A sentence on what is wrong with the file; None for a correct one.
        right: Which labels it gets right with the default delegate; None without
            labels, and for a file that wasn't run to the end.
        tolerance: The largest relative difference that was allowed; 0 if unknown.
    """

    differences: tuple[Difference, ...]
    problem: str | None = None
    right: np.ndarray | None = dataclasses.field(default=None, compare=False)
    tolerance: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """The share of the labels that it gets right."""
        return None if self.right is None else float(self.right.mean())


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What a file should answer, and how exactly.

    Attributes:
        reference: Inputs and answers.
        tolerance: Largest difference, as a share of the largest output.
        of: What gave the answers.
    """

    reference: Reference
    tolerance: float
    of: str = ""


def verify(
    file: bytes,
    expectations: Sequence[Expectation],
    labels: Labels | None = None,
    shuffled: bool = True,
) -> Verification:
    """Loads a file, runs it in every setting, and compares.

    Args:
        file: The bytes of a TFLite file.
        expectations: What Keras makes of the inputs, and what else there is to compare
            the answers with: all of them have the same inputs.
        labels: Labels of the samples, for the accuracy.
        shuffled: Whether to compare on shuffled inputs as well.

    Returns:
        The differences to the first expectation, with `problem` set if the file cannot
        be handed out.
    """
    keras = expectations[0]
    found: tuple[Difference, ...] = ()
    right = None
    for setting in SETTINGS:
        indices = batches_for(keras.reference, setting, shuffled)
        batches = [keras.reference.batches[i] for i in indices]
        try:
            answers = _run(file, batches, setting)
        # The runtime reports an unusable file by RuntimeError, ValueError or
        # TypeError, depending on where it notices.
        except Exception as error:
            reason = " ".join(str(error).split())
            return Verification(found, f"does not run with {setting}: {reason}")
        for expectation in expectations:
            pairs = [
                (expectation.reference.batches[i], answer)
                for i, answer in zip(indices, answers, strict=True)
            ]
            differences, problem = _differences(pairs, expectation, setting)
            if problem is not None:
                return Verification(found + differences, problem)
            if expectation is keras and not setting.brief:
                found += differences
        if labels is not None and right is None:
            right = labels.right(batches, answers)
    return Verification(found, right=right, tolerance=keras.tolerance)


def answers_of(file: bytes, reference: Reference) -> Reference:
    """Returns the reference with a file's answers instead of Keras's."""
    answers = _run(file, reference.batches, SETTINGS[0])
    batches = tuple(
        dataclasses.replace(batch, outputs=answer)
        for batch, answer in zip(reference.batches, answers, strict=True)
    )
    return dataclasses.replace(reference, batches=batches)


def open_interpreter(file: bytes, setting: Setting = SETTINGS[0]) -> Interpreter:
    """Returns an interpreter of a file, by default with a single thread."""
    return Interpreter(
        model_content=file,
        num_threads=setting.threads,
        experimental_op_resolver_type=_RESOLVERS[setting.delegate],
    )


def batches_for(
    reference: Reference, setting: Setting, shuffled: bool
) -> Sequence[int]:
    """Returns the indices of the batches to run in a setting, in this order."""
    if setting.brief:
        return reference.few
    every = enumerate(reference.batches)
    return [i for i, batch in every if shuffled or not batch.shuffled]


def _run(
    file: bytes, batches: Iterable[Batch], setting: Setting
) -> list[dict[str, np.ndarray]]:
    run = open_interpreter(file, setting).get_signature_runner()
    return [run(**batch.inputs) for batch in batches]


def _differences(
    pairs: Sequence[tuple[Batch, dict[str, np.ndarray]]],
    expectation: Expectation,
    setting: Setting,
) -> tuple[tuple[Difference, ...], str | None]:
    """Returns the differences on the samples, and what is wrong with them."""
    differences: tuple[Difference, ...] = ()
    for is_shuffled in (False, True):
        alike = [pair for pair in pairs if pair[0].shuffled == is_shuffled]
        for name in alike[0][0].outputs if alike else ():
            scale = expectation.reference.scale(name, is_shuffled)
            found = compare(name, setting.delegate, scale, alike)
            if not found.relative <= expectation.tolerance:  # NaN is wrong as well
                inputs = "shuffled inputs" if is_shuffled else "the samples"
                return differences, (
                    f"{expectation.of}computes something else on {inputs} with "
                    f"{setting}: {found}"
                )
            if not is_shuffled:
                differences += (found,)
    return differences, None


def compare(
    name: str,
    delegate: str,
    scale: float,
    pairs: Sequence[tuple[Batch, Mapping[str, np.ndarray]]],
) -> Difference:
    """Compares one output over all batches, each with the file's answer.

    Args:
        name: The output's name.
        delegate: What the file ran with.
        scale: The largest absolute value that Keras computes for it.
        pairs: The batches, each with the outputs that the file gave.
    """
    distances, largest_entries = [], []
    for batch, answer in pairs:
        expected, found = batch.outputs[name], answer[name]
        if expected.shape != found.shape:
            return Difference(name, delegate, np.nan, np.nan, scale, None)
        # Integers and booleans too: as float64 they are compared exactly.
        wide, found_wide = expected.astype(np.float64), found.astype(np.float64)
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
        scale=scale,
        agreement=None if agreement is None else float(agreement),
    )
