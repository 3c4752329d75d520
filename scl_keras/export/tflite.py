"""From a Keras model to a TFLite file that was run before it was written."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import keras
from numpy.typing import ArrayLike
from tqdm import tqdm

from scl_keras import backend, checks
from scl_keras.export.accuracy import check_max_drop, read_labels
from scl_keras.export.candidates import candidates
from scl_keras.export.converter import (
    ConvertedFiles,
    SavingError,
    without_masks,
)
from scl_keras.export.float32 import InFloat32
from scl_keras.export.outcome import ExportError, Outcome
from scl_keras.export.reference import build_reference
from scl_keras.export.report import ExportReport
from scl_keras.export.samples import Samples
from scl_keras.export.trials import Trials
from scl_keras.export_choices import DTYPES, GOALS
from scl_keras.files import write_whole

_OTHER_STEPS = 3  # than trials: Keras's answers, the plain file, the times


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    samples: Samples,
    optimize_for: str = "balanced",
    dtype: str = "float32",
    labels: ArrayLike | None = None,
    max_accuracy_drop: float | None = None,
    tolerance: float | None = None,
    latency_seconds: float = 2.0,
    verbose: int | Callable[[str], None] = 1,
) -> ExportReport:
    """Writes the best TFLite file that computes what the model computes.

    Nobody can tell beforehand which file is smallest or fastest, and some files of
    converters are silently wrong or don't load. So every file that may be worth it is
    made, and named in the report. A file is left out if a correct one has the same
    encoding of fewer weights, or unpacks to the same weights:

    - "dense": the plain converter's file.
    - "sparse": the converter's own encoding of zeros
      (`tf.lite.Optimize.EXPERIMENTAL_SPARSITY`).
    - "csr": compressed rows, unpacked when the file is loaded: small, and as fast as
      "dense".
    - "rows", "blocks": dense layers compute with compressed rows, or with blocks
      of 1x4 (four inputs) instead; "mixed": each layer with what should be faster.
    - "compact": without dead units and channels (`compact`), alone and with each of the
      above.
    - "float16": weights rounded to float16, alone and with "csr".
    - "int8": weights and activations as integers, calibrated on `samples`; "int8
      dynamic": activations rounded at each call; "int8 weights": stored as integers and
      computed in float32, alone and with "csr".

    Each file is decoded, and its weights are compared bit by bit (rounded ones to half
    a rounding step). It is loaded, run with and without the default delegate (XNNPACK),
    and compared with Keras on `samples`, one at a time and several at once; on a few of
    them also with 2 and with 4 threads. Correct files are timed against each other, and
    the best is put at `path` in one step. If there is none, or anything fails on the
    way, `path` is left as it was.

    A model of another float type (`mixed_bfloat16`, `float16`, `float64`, ...) is
    rebuilt in float32 first, and compared with itself. The two may differ by 32 times
    the rounding of its coarsest type, and the report tells by how much they do. Files
    are then compared with the float32 model.

    Masks need not be stripped first. A class derived from a masked layer has no known
    stock layer. Its masks are left to the converter, which folds a kernel and a mask of
    single connections into one constant.

    Args:
        model: A built Keras model: functional, Sequential or subclassed.
        path: File to write, ending in ".tflite", in an existing folder. An
            existing file is replaced.
        samples: Real inputs with a leading batch axis: an array, or for several
            inputs arrays nested as the model nests them, a list in its order or a dict
            by name. An optional input that is None is left out of the file. Some tens
            are plenty; all of them are run. For int8 they must be representative: a
            few hundred. Where the model leaves sizes open, dead units are found at
            their sizes.
        optimize_for: "size": the fewest bytes, or the shortest time of those within
            1 % of it. "latency": the shortest time of one inference, or the fewest
            bytes of those within 3 % of it. "balanced": the smallest product of bytes
            and time, so that half the bytes are worth as much as half the time. Times
            come with an interval; where they show no difference, the fewest bytes
            decide.
        dtype: The coarsest precision allowed: "float32", "float16" or "int8". Finer
            ones are tried, too, since a sparse float32 file may be smaller and faster
            than a dense int8 file.
        labels: Class indices of the samples (of each position, for a map), for the
            accuracy of each file; the model must have one output.
        max_accuracy_drop: How much accuracy on `samples` a file of a coarser precision
            than float32 may lose against the model. Default: 0.005, half a percent. The
            measured loss decides, even where few samples leave it to chance (the report
            then says so): refusing a good file costs bytes, taking a bad one costs
            accuracy that nobody sees.
        tolerance: Largest difference to Keras that counts as the same, for all
            precisions, as a share of the output's largest absolute value on the
            samples. Default: 1e-4 for float32, 1e-2 for float16, 0.1 for stored and
            0.15 for computed int8. Keras and TFLite add up in a different order. That
            moves a sum of n float32 products by about sqrt(n) * 6e-8 of its size (2e-6
            for a thousand), and adds up over layers. Networks here differ by 5e-7, so
            1e-4 leaves room for about a hundred layers. Missing weights are found by
            decoding the file, however small they are.
        latency_seconds: How long to time all files together. 0 for no timing; then
            bytes decide.
        verbose: 1 for a progress bar, 0 for none, or a function that is called with the
            name of each step when it is done (there are `export_steps(dtype)`).

    Returns:
        An `ExportReport`: sizes, encodings, differences and times, and what was tried.
        `print` it, or use `report.as_dict()` or `report.plot()`.

    Raises:
        ValueError: If an argument does not fit; nothing is converted then.
        ExportError: If no correct file can be made.
        RuntimeError: If Keras runs on another backend than TensorFlow.

    Example:
    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    samples = np.random.default_rng(0).normal(size=(16, 8))
    report = export_tflite(model, "model.tflite", samples=samples)
    print(report)
    ```
    """
    backend.check_can_export()
    path = _check_path(path)
    checks.one_of("optimize_for", optimize_for, GOALS)
    checks.one_of("dtype", dtype, DTYPES)
    if tolerance is not None:
        wanted = "a positive and finite number, or None"
        checks.number("tolerance", tolerance, wanted, lambda x: x > 0)
    wanted = "a finite number that isn't negative"
    checks.number("latency_seconds", latency_seconds, wanted, lambda x: x >= 0)
    if optimize_for == "latency" and not latency_seconds:
        raise ValueError(
            "`optimize_for='latency'` needs measured times: let `latency_seconds` be "
            "positive. Received: latency_seconds=0"
        )
    max_accuracy_drop = check_max_drop(max_accuracy_drop, labels is not None)
    tried = candidates(dtype)
    with _progress(verbose, len(tried) + _OTHER_STEPS) as done:
        with (in_float32 := InFloat32(model)):
            reference = build_reference(in_float32.model, samples)
        reference = in_float32.compared(reference, tolerance)
        checked = None
        if labels is not None:
            checked = read_labels(labels, reference, max_accuracy_drop)
        done("answers of Keras")
        with (
            in_float32,
            without_masks(in_float32.model),
            ConvertedFiles(reference) as files,
        ):
            plain = _convert(files)
            done("conversion")
            trials = Trials(files, reference, tolerance, checked).run(tried, done)
        outcome = Outcome(
            plain, trials, reference, checked, optimize_for, dtype, latency_seconds
        )
        report = outcome.report(path)
        done("times")
    write_whole(path, outcome.chosen.made)
    return report


def export_steps(dtype: str) -> int:
    """Number of steps of an export of which `verbose` is told.

    Args:
        dtype: See `export_tflite`.
    """
    return len(candidates(dtype)) + _OTHER_STEPS


@contextlib.contextmanager
def _progress(
    verbose: int | Callable[[str], None], steps: int
) -> Iterator[Callable[[str], None]]:
    """Yields what is to be called after each step: the caller's, or that of a bar."""
    if callable(verbose):
        yield verbose
        return
    with tqdm(desc="export", total=steps, disable=not verbose, leave=False) as bar:

        def done(step: str) -> None:
            bar.set_postfix_str(step, refresh=False)
            bar.update()

        yield done


def _check_path(path: str | os.PathLike[str]) -> pathlib.Path:
    checked = pathlib.Path(checks.path("path", path))
    if checked.suffix != ".tflite":
        raise ValueError(f"`path` must end in '.tflite'. Received: path={str(path)!r}")
    if not checked.parent.is_dir():
        raise ValueError(
            f"The folder of `path` must exist. Received: path={str(path)!r}"
        )
    if checked.is_dir():
        raise ValueError(
            f"`path` must be a file, not a folder. Received: path={str(path)!r}"
        )
    return checked


def _convert(files: ConvertedFiles) -> bytes:
    """Returns the plain file: without it, there is nothing to measure others by."""
    try:
        return files.plain
    except SavingError as error:
        raise _unsaved(error) from error.cause
    # The converter raises its own type.
    except Exception as error:
        hint = ""
        if "TensorList" in str(error):  # what a loop over steps becomes
            hint = (
                "Recurrent layers convert when they are made with `unroll=True`, or "
                "when the model's batch size is fixed: "
                "`keras.Input(batch_shape=(1, ...))`. "
            )
        raise ExportError(
            "TensorFlow Lite's converter cannot convert this model, not even without "
            f"sparse encoding; nothing was written. {hint}It says: {error}"
        ) from error


def _unsaved(error: SavingError) -> ExportError:
    """Returns an error that blames the disk for what it did, and else the model."""
    if error.is_of_disk:
        return ExportError(
            f"The temporary folder {tempfile.gettempdir()!r} can't be written to, or "
            "is full: the converter reads the model from there. Make room, or have the "
            "environment variable TMPDIR name another folder; nothing was written. It "
            f"says: {error}"
        )
    return ExportError(
        "TensorFlow cannot save this model as a SavedModel, which the converter reads; "
        f"nothing was written. It says: {error}"
    )
