"""The table that tells what is left of a network."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from scl_keras import checks
from scl_keras.connectivity import ConnectionGraph
from scl_keras.conversion.sparsify import unmasked_layers
from scl_keras.graph.inputs import sized_inputs
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import connection_positions
from scl_keras.graph.walking import is_graph
from scl_keras.layers.twins import masked_class_of
from scl_keras.masks.granularity import Connection
from scl_keras.masks.mask import split_masks
from scl_keras.report.summary_text import as_text


@dataclasses.dataclass(frozen=True)
class KernelRow:
    """What is left of one kernel.

    Attributes:
        layer: The layer's name and the kernel's, such as `"dense_1/kernel"`.
        layer_type: Class name of the layer.
        shape: Shape of the kernel.
        kept: Number of connections kept.
        connections: Number of all its connections.
        effective: Number of kept connections on a path from an input to an output;
            None where the model's graph can't be followed.
        features: Number of its features (output units or filters).
        dead_features: Number of features without an effective connection, or where
            these are unknown, without any.
        macs: Multiply-accumulates per sample of the dense kernel; None where the
            layer's output size isn't known.
        sparse_macs: Those of the kept connections alone.
        down_to_last: Whether the mask keeps its last connection only because it must.
        granularity: What the mask switches, `"connection"` also without one.
        masked: Whether it has a mask.
    """

    layer: str
    layer_type: str
    shape: tuple
    kept: int
    connections: int
    effective: int | None
    features: int
    dead_features: int
    macs: int | None
    sparse_macs: int | None
    down_to_last: bool
    granularity: str = "connection"
    masked: bool = False

    @property
    def sparsity(self) -> float:
        """Share of connections that are cut."""
        return 1 - self.kept / self.connections

    @property
    def effective_sparsity(self) -> float | None:
        """Share of connections that aren't effective, None if unknown."""
        return _sparsity(self.effective, self.connections)

    @property
    def dead(self) -> int | None:
        """Number of connections that are kept for nothing, None if unknown."""
        return None if self.effective is None else self.kept - self.effective


@dataclasses.dataclass(frozen=True)
class SparsitySummary:
    """What is left of a network: rows, totals, and a table as text.

    Attributes:
        name: Name of the model.
        rows: A `KernelRow` for each kernel that is masked or could be.
        unmasked: Names of the layers that hold kernels of another kind.
        fully_connected: Names of the operations that count as fully connected, since it
            isn't known on what their outputs depend.
        without_effective: Why effective connections are unknown, or None.
        weights: Number of all weights of the model, masks left out.

    Example:

    ```python
    table = summary(model, print_fn=None)
    table.compression  # 1.0
    [row.layer for row in table.rows]  # ['dense_1/kernel', 'dense_2/kernel']
    ```
    """

    name: str
    rows: tuple
    unmasked: tuple
    fully_connected: tuple = ()
    without_effective: str | None = None
    weights: int = 0

    @property
    def masked_sparsity(self) -> float | None:
        """Share of the masked kernels' connections that is cut; None without masks."""
        masked = [row for row in self.rows if row.masked]
        size = sum(row.connections for row in masked)
        return _sparsity(sum(row.kept for row in masked), size) if size else None

    @property
    def model_sparsity(self) -> float:
        """Share of all weights of the model that is cut, biases and all counted."""
        return (self.connections - self.kept) / self.weights

    @property
    def kept(self) -> int:
        """Number of connections kept, in all rows."""
        return sum(row.kept for row in self.rows)

    @property
    def connections(self) -> int:
        """Number of connections, in all rows."""
        return sum(row.connections for row in self.rows)

    @property
    def density(self) -> float:
        """Share of connections kept."""
        return self.kept / self.connections

    @property
    def sparsity(self) -> float:
        """Share of connections cut."""
        return 1 - self.density

    @property
    def compression(self) -> float:
        """Connections over connections kept; infinite where nothing is kept."""
        return self.connections / self.kept if self.kept else float("inf")

    @property
    def effective(self) -> int | None:
        """Number of effective connections, in all rows, None if unknown."""
        return _total(row.effective for row in self.rows)

    @property
    def dead(self) -> int | None:
        """Number of connections that are kept for nothing, None if unknown."""
        return _total(row.dead for row in self.rows)

    @property
    def effective_sparsity(self) -> float | None:
        """Share of connections that aren't effective, None if unknown."""
        return _sparsity(self.effective, self.connections)

    @property
    def effective_compression(self) -> float | None:
        """Connections over effective ones, infinite if none are, None if unknown."""
        if self.effective is None:
            return None
        return self.connections / self.effective if self.effective else float("inf")

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates per sample of all dense kernels, None if unknown."""
        return _total(row.macs for row in self.rows)

    @property
    def sparse_macs(self) -> int | None:
        """Multiply-accumulates per sample of the kept connections, None if unknown."""
        return _total(row.sparse_macs for row in self.rows)

    def as_dict(self) -> dict:
        """Rows and totals as JSON-able data."""
        of_row = ("sparsity", "effective_sparsity", "dead")
        rows = [
            {**dataclasses.asdict(row), **{key: getattr(row, key) for key in of_row}}
            for row in self.rows
        ]
        totals = (
            *("kept", "connections", "sparsity", "compression"),
            *("effective", "dead", "effective_sparsity", "effective_compression"),
            *("macs", "sparse_macs", "without_effective"),
            *("weights", "masked_sparsity", "model_sparsity"),
        )
        return {
            "name": self.name,
            "rows": rows,
            "unmasked": list(self.unmasked),
            "fully_connected": list(self.fully_connected),
            **{key: getattr(self, key) for key in totals},
        }

    def __str__(self) -> str:
        return as_text(self)


def summary(
    model: keras.Model,
    print_fn: Callable[[str], object] | None = print,
    input_shapes: Sequence | None = None,
) -> SparsitySummary:
    """Prints and returns what is left of a network's connections.

    Masked layers are read by their masks, stock layers that could be masked by the
    zeros in their kernels. So a stripped model has the same summary. A kept connection
    is effective if it lies on a path from an input to an output, and dead otherwise
    (see `scl_keras.connectivity.ConnectionGraph`). Models that can't be followed, such
    as those with open sizes, get the direct figures alone.

    Args:
        model: A built Keras model.
        print_fn: Function that takes the table as text; None to print nothing.
        input_shapes: Shapes of the inputs without the batch axis, where the model
            leaves sizes open, see `ConnectionGraph`.

    Returns:
        A `SparsitySummary`.

    Raises:
        ValueError: If the model is unbuilt or has no kernel that could be masked, or
            `print_fn` or `input_shapes` isn't as told above.

    Example:

    ```python
    table = summary(model)
    table.compression, table.as_dict()["rows"][0]["kept"]
    ```
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(f"`summary` needs a built Keras model. Received: {model!r}")
    if print_fn is not None:
        checks.function("print_fn", print_fn, "a function that takes a string, or None")
    kernels = prunable_kernels(model)
    if not kernels:
        raise ValueError(
            f"Model '{model.name}' has no layer that could be masked. Its layers are: "
            + ", ".join(layer.name for layer in model.layers)
        )
    sized = input_shapes is not None and is_graph(model)
    inputs = sized_inputs(model, input_shapes) if sized else None
    try:
        graph, reason = ConnectionGraph(model, input_shapes), None
    except ValueError as error:  # no graph, or open sizes
        graph, reason = None, str(error)
    positions = connection_positions(model, inputs)
    kept = [kernel.kept() for kernel in kernels]
    effective = [None] * len(kernels) if graph is None else graph.effective(kept)
    rows = zip(kernels, kept, effective, strict=True)
    result = SparsitySummary(
        name=model.name,
        rows=tuple(_row(*row, positions(row[0])) for row in rows),
        unmasked=tuple(
            f"{layer.name} ({type(layer).__name__})"
            for layer in unmasked_layers(model)
            if masked_class_of(layer) is None
        ),
        fully_connected=() if graph is None else graph.unknown,
        without_effective=reason,
        weights=sum(int(np.prod(w.shape)) for w in split_masks(model.weights)[0]),
    )
    if print_fn is not None:
        print_fn(str(result))
    return result


def _row(kernel, kept, effective, positions):
    size, dead_features = kept.size, kernel.dead_features(effective)
    kept = int(kept.sum())
    return KernelRow(
        layer=kernel.label,
        layer_type=type(kernel.layer).__name__,
        shape=kernel.shape,
        kept=kept,
        connections=size,
        effective=None if effective is None else int(effective.sum()),
        features=kernel.features,
        dead_features=dead_features,
        macs=None if positions is None else size * positions,
        sparse_macs=None if positions is None else kept * positions,
        down_to_last=kernel.mask is not None and kernel.mask.is_down_to_last(),
        granularity=str(
            Connection() if kernel.mask is None else kernel.mask.granularity
        ),
        masked=kernel.mask is not None,
    )


def _total(numbers):
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)


def _sparsity(kept, connections):
    return None if kept is None else 1 - kept / connections
