"""Which layers can get smaller or faster on a runtime, and why not the others."""

import dataclasses
from typing import Any

import keras
from keras import layers
from rich import box
from rich.table import Table

from scl_keras import checks
from scl_keras.conversion.strip import stripped
from scl_keras.export_choices import DTYPES
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.walking import check_graph
from scl_keras.masks.granularity import Block, Connection, Granularity
from scl_keras.rendering import as_plain_text
from scl_keras.targets.limits import Limit, MaxBytes, Speedup
from scl_keras.targets.removable import INPUTS, ChannelSwitches
from scl_keras.targets.xnnpack import SparsePart

DENSE_BLOCK = Block(4, axis=-2)
POINTWISE_BLOCK = Block(4, axis=-1)


@dataclasses.dataclass(frozen=True)
class KernelCheck:
    """What a runtime makes of one kernel.

    Attributes:
        layer: The layer's name and the kernel's, such as `"dense_1/kernel"`.
        layer_type: Class name of the layer.
        shape: Shape of the kernel.
        gains: Whether the layer can get faster there (for `"size"`: smaller).
        granularity: What its masks should switch, or None for no masks.
        reason: Why, or why not.

    Example:

    ```python
    row = check_target(dense_model, "size").rows[0]
    row.layer, row.gains  # ('dense_1/kernel', True)
    ```
    """

    layer: str
    layer_type: str
    shape: tuple
    gains: bool
    granularity: Granularity | None
    reason: str


@dataclasses.dataclass(frozen=True)
class TargetCheck:
    """What a runtime makes of a model: rows, and a table as text.

    Attributes:
        name: Name of the model.
        runtime: Name of the runtime.
        rows: A `KernelCheck` for each kernel that could be masked.
        note: What holds for all of them.
        refusal: Why a file as small or as fast as was asked for can't be had; None if
            it can, or if nothing was asked for.

    Example:

    ```python
    check = check_target(dense_model, "compact")
    check.gains, check.as_dict()["rows"][0]["reason"]
    ```
    """

    name: str
    runtime: str
    rows: tuple
    note: str
    refusal: str | None = None

    @property
    def gains(self) -> bool:
        """Whether any layer gains."""
        return any(row.gains for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        rows = [
            {**dataclasses.asdict(row), "granularity": _text(row.granularity)}
            for row in self.rows
        ]
        return {**dataclasses.asdict(self), "rows": rows, "gains": self.gains}

    def __str__(self):
        table = Table(box=box.SQUARE, title=f'"{self.name}" on {self.runtime}')
        for title in ("Layer (type)", "Masks switch", "Gains", "Why"):
            table.add_column(title, overflow="fold")
        for row in self.rows:
            table.add_row(
                f"{row.layer} ({row.layer_type})",
                _text(row.granularity) or "-",
                "yes" if row.gains else "no",
                row.reason,
            )
        lines = [as_plain_text(table), self.note, self.refusal]
        return "\n".join(line for line in lines if line is not None)


def check_target(
    model: keras.Model,
    runtime: str,
    *,
    max_bytes: int | None = None,
    speedup: float | None = None,
    dtype: str = "int8",
) -> TargetCheck:
    """Tells for each kernel whether a runtime can run it faster, and why not.

    - `"compact"`: channels are removed (`compact`), so all runtimes and devices have
      less to do. Masks switch a channel where it is read if only one layer reads it,
      else where it is made. Channels that are added up stay.
    - `"tflite-dense"`: TFLite on CPUs, whose 1x4 block form makes `Dense` layers
      faster; other layers as for `"compact"`.
    - `"xnnpack"`: TFLite on ARM (aarch64), where XNNPACK runs 1x1 convolutions on
      sparse kernels if the network has the shape that it needs. Its fastest kernel
      takes blocks of four output channels.
    - `"size"`: the smallest file, on any runtime; connections are switched one by one.

    Args:
        model: A built functional or Sequential model, stock or masked.
        runtime: One of `RUNTIMES`.
        max_bytes: Also tell whether a file of at most so many bytes is possible. Files
            are made for that, which takes some seconds.
        speedup: Also tell whether a file is possible that is so many times as fast as
            the dense one, by cutting channels.
        dtype: The coarsest precision of the file, for `max_bytes`.

    Returns:
        A `TargetCheck`, which `str` makes a table of.

    Raises:
        ValueError: If the model has no graph or open sizes, or if an argument isn't one
            of these.
        RuntimeError: If a file has to be made and Keras runs on another backend than
            TensorFlow.

    Example:

    ```python
    check = check_target(model, "xnnpack")
    print(check)
    [row.layer for row in check.rows if not row.gains]
    ```
    """
    limits: list[Limit] = []
    if max_bytes is not None:
        limits.append(MaxBytes.of(max_bytes))
    if speedup is not None:
        limits.append(Speedup.of(speedup))
    check, _ = _plan(model, runtime)
    if not limits:
        return check
    from scl_keras.targets.reach import refusals  # which puts in masks, and needs this

    found = refusals(model, runtime, limits, checks.one_of("dtype", dtype, DTYPES))
    return dataclasses.replace(check, refusal="\n".join(found) or None)


def granularity_for(model, runtime, verbose=1):
    """What the masks of each layer switch on a runtime.

    Args:
        model: As for `check_target`.
        runtime: As for `check_target`.
        verbose: 1 to print the choice, 0 not to.

    Returns:
        A function from a layer to a `Granularity`, or None for no masks.

    Raises:
        ValueError: As `check_target`, and if no layer gains.
    """
    check, chosen = _plan(model, runtime)
    if not any(row.granularity for row in check.rows):
        raise ValueError(f"No layer of '{model.name}' gains on {runtime!r}:\n{check}")
    if verbose:
        print(check)
    return lambda layer: chosen.get(id(layer))


def _plan(model, runtime):
    """`check_target(model, runtime)`, and a dict of granularities by layers' ids."""
    check_name(runtime)
    check_graph(model, "check_target")
    if any(None in x.shape[1:] for x in model.inputs):
        shapes = [tuple(x.shape) for x in model.inputs]
        raise ValueError(
            "`check_target` needs inputs of known sizes: padding and what is left of "
            f"an image depend on them. Received: inputs of shapes {shapes}"
        )
    rule, note = RUNTIMES[runtime]
    rows, chosen = [], {}
    with stripped(model) as stock:
        judge = rule(stock)
        for kernel in prunable_kernels(stock):
            granularity, gains, reason = judge(kernel)
            chosen[id(kernel.layer)] = granularity
            kind = type(kernel.layer).__name__
            rows.append(
                KernelCheck(
                    kernel.label, kind, kernel.shape, gains, granularity, reason
                )
            )
    return TargetCheck(model.name, runtime, tuple(rows), note), chosen


def check_name(runtime):
    """Raises a `ValueError` if there is no such runtime."""
    checks.one_of("runtime", runtime, RUNTIMES)


def _compact(model, excluded=frozenset()):
    switches = ChannelSwitches(model, excluded)

    def judge(kernel):
        key = id(kernel.layer)
        reason = switches.reasons.get(key, "compaction doesn't take such layers apart")
        return switches.of.get(key), key in switches.shrinks, reason

    return judge


def _tflite_dense(model):
    every = {id(k.layer): k.layer for k in prunable_kernels(model)}
    # Those that read a convolution's channels are better used to switch these.
    channels = ChannelSwitches(model)
    dense = {
        key
        for key, layer in every.items()
        if type(layer) is layers.Dense
        and (channels.of.get(key) != INPUTS or channels.reads_only(layer, layers.Dense))
    }
    others = _compact(model, dense)

    def judge(kernel):
        if id(kernel.layer) not in dense:
            return others(kernel)
        inputs = kernel.shape[0]
        if inputs < DENSE_BLOCK.size:
            return None, False, f"{inputs} inputs make no block of four"
        rest = inputs % DENSE_BLOCK.size
        short = f"; the last block has {rest}, and has to be padded" if rest else ""
        return DENSE_BLOCK, True, f"four inputs of one output are one block{short}"

    return judge


def _xnnpack(model):
    part = SparsePart(model)

    def judge(kernel):
        layer = kernel.layer
        if type(layer) is layers.Dense:
            return None, False, "XNNPACK has no sparse kernel of it; see 'tflite-dense'"
        problem = part.problems.get(
            id(layer), "it isn't a call of its own in the graph"
        )
        if type(layer) is layers.Conv2D and set(layer.kernel_size) == {1}:
            if problem:
                return None, False, problem
            return POINTWISE_BLOCK, True, "four outputs of one input are one block"
        if problem:
            return None, False, problem
        return None, False, "it has the shape, but only 1x1 convolutions get faster"

    return judge


def _size(model):
    def judge(kernel):
        return Connection(), True, "a cut connection costs a bit instead of a number"

    return judge


RUNTIMES = {
    "compact": (
        _compact,
        "What is cut has to be removed with `compact` before it is exported.",
    ),
    "tflite-dense": (
        _tflite_dense,
        "Blocks pay from about 70 % of zeros on; channels have to be removed with "
        "`compact`.",
    ),
    "xnnpack": (
        _xnnpack,
        "On aarch64 alone, and only if more than two thirds of all weights of the 1x1 "
        "convolutions are zero and the file is sparse-encoded.",
    ),
    "size": (_size, "Files get smaller, not faster."),
}
"""The runtimes by name: their rules, and what holds for all kernels."""


def _text(granularity):
    return None if granularity is None else str(granularity)
