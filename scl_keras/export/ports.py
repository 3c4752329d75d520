"""Inputs and outputs of a file of anybody, and which of a model's they are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# What TensorFlow puts around a name where a file has no signature.
_AROUND = re.compile(r"^serving_default_|:0$")
_NUMBERED = re.compile(r"^(?P<stem>.*?)(?:[_:](?P<number>\d+))?$")


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or an output, as a file has it.

    Attributes:
        name: What the file calls it.
        index: Of its tensor, in its graph.
        shape: Its sizes, -1 where they are open.
        stored: The shape that is in the file, before it is resized.
        dtype: Its type.
        scale: What its integers are multiplied with; 0 if they aren't quantized.
        zero_point: The integer that stands for 0.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    dtype: np.dtype
    scale: float = 0.0
    zero_point: int = 0

    @classmethod
    def of(cls, name: str, details: Mapping[str, Any]) -> Port:
        """Makes one of what the runtime tells of a tensor."""
        stored = tuple(map(int, details["shape"]))
        signature = tuple(map(int, details["shape_signature"]))
        scale, zero_point = details["quantization"]
        return cls(
            name=name,
            index=int(details["index"]),
            shape=signature or stored,  # files of old converters have no signature
            stored=stored,
            dtype=np.dtype(details["dtype"]),
            scale=float(scale),
            zero_point=int(zero_point),
        )

    @property
    def is_quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return self.dtype.kind in "iu" and self.scale > 0

    def takes(self, dtype: np.dtype) -> bool:
        """Whether it can be given, or gives, what a model has in a type."""
        if dtype.kind == "f":
            return self.dtype.kind == "f" or self.is_quantized
        return dtype.kind in "iub" and self.dtype.kind in "iubf"

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns a model's values as the file takes them.

        Raises:
            ValueError: If integers are too large for it.
        """
        if self.is_quantized and values.dtype.kind == "f":
            limits = np.iinfo(self.dtype)
            steps = np.round(values / self.scale) + self.zero_point
            return steps.clip(limits.min, limits.max).astype(self.dtype)
        found = values.astype(self.dtype)
        if values.dtype.kind in "iu" and (found != values).any():
            raise ValueError(
                f"Input {self.name!r} of the file takes {self.dtype}, which doesn't "
                f"hold all integers of the samples: they are from {values.min()} to "
                f"{values.max()}"
            )
        return found

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Returns what the file gives as the real numbers that it stands for."""
        if not self.is_quantized:
            return values
        steps = values.astype(np.float64) - self.zero_point
        return (steps * self.scale).astype(np.float32)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array can have this shape, whatever its number of samples."""
        pairs = zip(self.shape[1:], shape[1:], strict=False)
        return len(shape) == len(self.shape) and all(a in (-1, b) for a, b in pairs)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An input or an output, as a model has it.

    Attributes:
        name: What it is called here.
        others: What else files call it, all alike in their order.
        shape: The shape of an array of samples.
        dtype: Its type.
    """

    name: str
    others: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype


def matched(
    kind: str,
    ports: Sequence[Port],
    wanted: Sequence[Wanted],
    given: Mapping[str, str] | None,
) -> dict[str, str]:
    """Finds out which inputs, or outputs, of a file are which of a model's.

    They are the same by name; if not, where only one has the shape; if not, by the
    numbers in their names.

    Args:
        kind: "inputs" or "outputs", the argument that `given` is.
        ports: The file's.
        wanted: The model's, in its order.
        given: The names of the model's by those of the file, or None to find it out.

    Returns:
        The names of the model's by those of the file.

    Raises:
        ValueError: If they don't fit, or can't be told apart.
    """
    if len(ports) != len(wanted):
        raise ValueError(
            f"The file has {len(ports)} {kind}, and the model {len(wanted)}. "
            f"Received: {_all(kind, ports, wanted)}"
        )
    found = _given(kind, ports, wanted, given) if given is not None else None
    found = found or _by_name(ports, wanted) or _by_shape(ports, wanted)
    found = found or _by_number(ports, wanted)
    if found is None:
        raise ValueError(
            f"It can't be told which {kind} of the file are which of the model's: they "
            f"have other names, and the same shapes. Give `{kind}`, a dict of the "
            "model's names by the file's. "
            f"Received: {_all(kind, ports, wanted)}"
        )
    by_name = {w.name: w for w in wanted}
    for port in ports:
        _check(kind.removesuffix("s"), port, by_name[found[port.name]])
    return found


def _given(kind, ports, wanted, given):
    """What the caller says, each of both sides once."""
    names, own = [port.name for port in ports], [w.name for w in wanted]
    others = {other: w.name for w in reversed(wanted) for other in w.others}
    try:
        found = {k: v if v in own else others[v] for k, v in given.items()}
    except (AttributeError, KeyError, TypeError):  # something else, or another name
        found = {}
    if sorted(map(str, found)) != sorted(names) or sorted(found.values()) != sorted(
        own
    ):
        raise ValueError(
            f"`{kind}` must be a dict that has the file's names {names} as keys and "
            f"the model's, {own}, as values, each once. Received: {kind}={given!r}"
        )
    return found


def _by_name(ports, wanted):
    names = {_AROUND.sub("", port.name): port.name for port in ports}
    own = [w.name for w in wanted]
    for called in zip(*[(w.name, *w.others) for w in wanted], strict=True):
        if sorted(called) == sorted(names):
            found = dict(zip(called, own, strict=True))
            return {name: found[plain] for plain, name in names.items()}
    return None


def _by_shape(ports, wanted):
    found = {}
    for port in ports:
        fitting = [w.name for w in wanted if port.fits(w.shape)]
        if len(fitting) != 1 and len(wanted) > 1:
            return None
        found[port.name] = fitting[0] if fitting else wanted[0].name
    return found if len(set(found.values())) == len(wanted) else None


def _by_number(ports, wanted):
    """In the order of numbers in names: `out`, `out_1`, or `out:0`, `out:1`."""
    parts = [_NUMBERED.match(port.name) for port in ports]
    numbers = [int(part["number"] or 0) for part in parts]
    if len({part["stem"] for part in parts}) > 1 or len(set(numbers)) < len(numbers):
        return None
    order = sorted(zip(numbers, [port.name for port in ports], strict=True))
    return {name: w.name for (_, name), w in zip(order, wanted, strict=True)}


def _check(kind, port, wanted):
    if not port.fits(wanted.shape):
        raise ValueError(
            f"The {kind} {port.name!r} of the file has another shape than "
            f"{wanted.name!r} of the model has on the samples. Received: {port.shape}, "
            f"where an open size is -1, and {wanted.shape}"
        )
    if not port.takes(wanted.dtype):
        hint = ", and no scale" if port.dtype.kind in "iu" else ""
        raise ValueError(
            f"The {kind} {port.name!r} of the file doesn't fit {wanted.name!r} of the "
            f"model. Received: {port.dtype}{hint}, and {wanted.dtype}"
        )


def _all(kind, ports, wanted):
    of_file = {port.name: port.shape for port in ports}
    of_model = {w.name: w.shape for w in wanted}
    return f"{kind} of the file {of_file}, of the model {of_model}"
