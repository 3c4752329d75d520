"""A file of anybody, which takes a model's inputs and gives its outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from scl_keras.export.names import file_names
from scl_keras.export.ports import Port, Wanted, matched
from scl_keras.export.reference import Reference
from scl_keras.export.verification import Setting, open_interpreter

_USUAL = "serving_default"  # what TensorFlow calls the signature to serve

_Run = Callable[..., Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ForeignFile:
    """A file, and which of its inputs and outputs are which of a model's.

    Attributes:
        file: Its bytes.
        signature: The signature to run; None for a file without one.
        inputs: Its inputs, by the names of the model's.
        outputs: Its outputs, by the names of the model's.
        batch_size: The number of samples that it always takes, or None.
    """

    file: bytes
    signature: str | None
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    batch_size: int | None

    def open(self, setting: Setting) -> _Run:
        """Returns a function of a mapping of the model's inputs to its outputs.

        Args:
            setting: What to run it with.
        """
        run = _runner(open_interpreter(self.file, setting), self.signature)

        def answer(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            given = {
                self.inputs[k].name: self.inputs[k].encode(inputs[k]) for k in inputs
            }
            found = run(**given)
            return {
                k: port.decode(found[port.name]) for k, port in self.outputs.items()
            }

        return self._in_batches(answer)

    def is_resized(self, size: int) -> bool:
        """Whether it must be resized to take so many samples at once."""
        return any(p.stored[:1] != (size,) for p in self.inputs.values())

    def _in_batches(self, answer: _Run) -> _Run:
        """A function of any number of samples, by batches of the size it takes."""
        size = self.batch_size
        if size is None:
            return answer

        def answer_all(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            count = len(next(iter(inputs.values())))
            rows = np.arange(-(-count // size) * size) % count  # the last are repeated
            parts = [
                answer({k: v[rows[i : i + size]] for k, v in inputs.items()})
                for i in range(0, len(rows), size)
            ]
            return {
                k: np.concatenate([part[k] for part in parts])[:count] for k in parts[0]
            }

        return answer_all


def read_foreign(
    file: bytes,
    reference: Reference,
    inputs: Mapping[str, str] | None,
    outputs: Mapping[str, str] | None,
) -> ForeignFile:
    """Opens a file, and matches its inputs and outputs with a model's.

    Args:
        file: The bytes of a TFLite file that is known to be undamaged.
        reference: A model, and its answers on samples.
        inputs: Names of the model's inputs by those of the file, or None.
        outputs: Likewise.

    Returns:
        The file.

    Raises:
        ValueError: If they don't fit, or the runtime doesn't load the file.
    """
    try:
        interpreter = open_interpreter(file)
        known = list(interpreter.get_signature_list())
    except Exception as error:  # RuntimeError, ValueError or TypeError
        reason = " ".join(str(error).split())
        raise ValueError(f"The runtime doesn't load the file: {reason}") from error
    signature = _signature(known)
    taken, given = _ports(interpreter, signature)
    of_inputs = matched("inputs", taken, _wanted_inputs(reference), inputs)
    of_outputs = matched("outputs", given, _wanted_outputs(reference), outputs)
    return ForeignFile(
        file,
        signature,
        {of_inputs[port.name]: port for port in taken},
        {of_outputs[port.name]: port for port in given},
        _batch_size(taken),
    )


def _signature(known: Sequence[str]) -> str | None:
    if len(known) > 1 and _USUAL not in known:
        raise ValueError(
            f"Of several signatures {_USUAL!r} is run, and the file has none of that "
            f"name. Received: a file with the signatures {list(known)}"
        )
    return None if not known else _USUAL if len(known) > 1 else known[0]


def _ports(
    interpreter: Interpreter, signature: str | None
) -> tuple[list[Port], list[Port]]:
    if signature is not None:
        runner = interpreter.get_signature_runner(signature)
        sides = [runner.get_input_details(), runner.get_output_details()]
    else:
        sides = [
            _by_name(interpreter.get_input_details()),
            _by_name(interpreter.get_output_details()),
        ]
    taken, given = (
        [Port.of(name, details) for name, details in side.items()] for side in sides
    )
    return taken, given


def _by_name(details: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Details by names, with their indices behind those that several have."""
    names = [d["name"] for d in details]
    return {
        d["name"] if names.count(d["name"]) == 1 else f"{d['name']} ({d['index']})": d
        for d in details
    }


def _runner(interpreter: Interpreter, signature: str | None) -> _Run:
    if signature is not None:
        return interpreter.get_signature_runner(signature)
    inputs = _by_name(interpreter.get_input_details())
    outputs = _by_name(interpreter.get_output_details())

    def run(**given: np.ndarray) -> dict[str, np.ndarray]:
        for name, values in given.items():
            interpreter.resize_tensor_input(inputs[name]["index"], values.shape)
        interpreter.allocate_tensors()
        for name, values in given.items():
            interpreter.set_tensor(inputs[name]["index"], values)
        interpreter.invoke()
        return {k: interpreter.get_tensor(d["index"]) for k, d in outputs.items()}

    return run


def _batch_size(ports: Sequence[Port]) -> int | None:
    sizes = {port.shape[0] for port in ports}  # each has a batch axis, or fits nothing
    if len(sizes) > 1:
        raise ValueError(
            "All inputs of the file must take the same number of samples. "
            f"Received: {[port.shape for port in ports]}"
        )
    [size] = sizes
    return None if size < 0 else size


def _wanted_inputs(reference: Reference) -> list[Wanted]:
    batch = reference.batches[0]
    arrays = [batch.inputs[spec.name] for spec in reference.signature]
    names = [spec.name for spec in reference.signature]
    return _wanted(names, arrays, _usual_names("input", len(names)))


def _wanted_outputs(reference: Reference) -> list[Wanted]:
    outputs = reference.batches[0].outputs
    names, arrays = list(outputs), list(outputs.values())
    layers = list(getattr(reference.model, "output_names", None) or ())
    others = _usual_names("output", len(names))
    if len(layers) == len(names):  # as `tf_keras` and TFMOT call them
        others += [layers, file_names(layers, "output")]
    return _wanted(names, arrays, others)


def _usual_names(prefix: str, count: int) -> list[list[str]]:
    return [[f"{prefix}_{i}" for i in range(count)]]


def _wanted(
    names: Sequence[str],
    arrays: Sequence[np.ndarray],
    others: Sequence[Sequence[str]],
) -> list[Wanted]:
    return [
        Wanted(name, tuple(other[i] for other in others), array.shape, array.dtype)
        for i, (name, array) in enumerate(zip(names, arrays, strict=True))
    ]
