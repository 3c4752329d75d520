"""What compaction did to a model: parameters, multiply-accumulates, time."""

import dataclasses

import keras
import numpy as np
from keras import ops

from scl_keras import backend, checks
from scl_keras.connectivity.staying_channels import staying_channels
from scl_keras.conversion.strip import stripped
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import connection_positions
from scl_keras.graph.states import from_initial_states
from scl_keras.graph.walking import graph_of
from scl_keras.timing import Speed, take_turns


@dataclasses.dataclass(frozen=True)
class CompactionReport:
    """A model before and after `compact`.

    Attributes:
        parameters_before: Number of weights, masks not counted.
        parameters_after: The same of the compacted model.
        macs_before: Multiply-accumulates of one sample in the kernels that can be
            masked, zeros not left out; None where a size is open.
        macs_after: The same of the compacted model.
        ms_before: Median milliseconds of one call of the model without masks, as a
            compiled function.
        ms_after: The same of the compacted model.
        speed: How many times as fast the compacted model is, with an interval.
        batch_size: Number of samples of such a call.
        difference: Largest difference between the outputs of the two for random inputs,
            as a share of the largest output.
        stays: Why dead channels are left in the compacted model: texts by the names of
            the layers that make them. Empty where it leaves sizes open.

    Example:

    ```python
    report = compaction_report(model, compact(model))
    report.parameters_after <= report.parameters_before  # True
    ```
    """

    parameters_before: int
    parameters_after: int
    macs_before: int | None
    macs_after: int | None
    ms_before: float
    ms_after: float
    speed: Speed
    batch_size: int
    difference: float
    stays: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """Time before over time after: above 1 it is faster, if `speed` shows it."""
        return self.speed.ratio

    def as_dict(self) -> dict:
        """All figures as JSON-able data."""
        return {**dataclasses.asdict(self), "speedup": self.speedup}

    def __str__(self):
        macs = [self.macs_before, self.macs_after]
        before, after = ("?" if x is None else f"{x:,}" for x in macs)
        stays = (f"\nDead channels of '{k}': {x}" for k, x in self.stays.items())
        return (
            f"Parameters: {self.parameters_before:,} -> {self.parameters_after:,}\n"
            f"Multiply-accumulates: {before} -> {after}\n"
            f"Milliseconds, batch {self.batch_size}: {self.ms_before:.3f} -> "
            f"{self.ms_after:.3f}, {self.speed}\n"
            f"Largest difference: {self.difference:.1e} of the largest output"
            f"{''.join(stays)}"
        )


def compaction_report(
    model: keras.Model,
    compacted: keras.Model,
    *,
    batch_size: int = 1,
    seconds: float = 1.0,
) -> CompactionReport:
    """Compares a model with its compacted version, and times both.

    It tells of each layer with dead channels left why `compact` couldn't remove them.
    Both take turns, so that whatever else the machine does meets both alike. The report
    calls one of them faster only if the times show it.

    Args:
        model: The model that was compacted, masked or not.
        compacted: What `compact` made of it.
        batch_size: Number of samples in a call that is timed.
        seconds: How long to measure, both models together.

    Returns:
        A `CompactionReport`.

    Raises:
        ValueError: If one isn't a built functional or Sequential model, if their inputs
            or outputs aren't alike, or `input_shapes` are no shapes.

    Example:

    ```python
    report = compaction_report(model, compact(model))
    report.parameters_after, report.speedup
    ```
    """
    _check(model, "model")
    _check(compacted, "compacted")
    wanted = "a whole number >= 1"
    batch_size = checks.integer("batch_size", batch_size, wanted, least=1)
    seconds = checks.number("seconds", seconds, "a number >= 0", lambda x: x >= 0)
    alone = from_initial_states(model), from_initial_states(compacted)
    with stripped(model) as stock, alone[0], alone[1]:
        return _compare([stock, compacted], batch_size, seconds)


def _check(model, name):
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            f"`{name}` must be a built functional or Sequential Keras model. Received: "
            f"{name}={checks.short(model)} (of type {type(model).__name__})"
        )


def _compare(pair, batch_size, seconds):
    compacted = pair[1]
    shapes = [[x.shape for x in (*m.inputs, *m.outputs)] for m in pair]
    alike = len(shapes[0]) == len(shapes[1]) and all(
        len(a) == len(b) and all(m is None or m == n for m, n in zip(a, b, strict=True))
        for a, b in zip(*shapes, strict=True)
    )
    if not alike:
        raise ValueError(
            "`compacted` must be what `compact` made of `model`, with the same inputs "
            f"and outputs. Received: {shapes[0]} and {shapes[1]}"
        )
    inputs = _random_inputs(compacted, batch_size)
    functions = [
        backend.compiled(lambda xs, net=net: net(xs, training=False), net.variables)
        for net in pair
    ]
    a, b = (keras.tree.flatten(function(inputs)) for function in functions)
    timings = take_turns(_calls(functions, inputs), seconds)
    return CompactionReport(
        *(net.count_params() for net in pair),
        *(_macs(net) for net in pair),
        timings.ms("before"),
        timings.ms("after"),
        timings.speed("after", "before"),
        batch_size,
        max(map(_difference, a, b)),
        staying_channels(compacted),
    )


def _random_inputs(model, batch_size):
    rng = np.random.default_rng(0)

    def sample(x):
        shape = (x.shape[0] or batch_size, *(size or 1 for size in x.shape[1:]))
        real = keras.backend.is_float_dtype(x.dtype)
        values = rng.normal(size=shape) if real else np.zeros(shape)
        return ops.convert_to_tensor(values, x.dtype)

    return keras.tree.map_structure(sample, graph_of(model)[0])


def _macs(model):
    positions = connection_positions(model)
    counts = [(kernel, positions(kernel)) for kernel in prunable_kernels(model)]
    if any(count is None for _, count in counts):
        return None
    return sum(int(np.prod(kernel.shape)) * count for kernel, count in counts)


def _difference(a, b):
    a, b = (ops.convert_to_numpy(x).astype("float64") for x in (a, b))
    return float(np.max(np.abs(a - b)) / (np.max(np.abs(a)) or 1))


def _calls(functions, inputs):
    """Calls of the functions "before" and "after" that wait for what they compute."""

    def call(function):
        for y in keras.tree.flatten(function(inputs)):
            ops.convert_to_numpy(y)

    before, after = functions
    return {"before": lambda: call(before), "after": lambda: call(after)}
