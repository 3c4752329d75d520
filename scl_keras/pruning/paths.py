"""Whether masks leave a path from a model's inputs to its outputs."""

import functools

from scl_keras.pruning.effective import total
from scl_keras.pruning.methods import LAMP, PruningMethod
from scl_keras.pruning.network import PrunableNetwork
from scl_keras.pruning.open_sizes import on_accepted_sizes
from scl_keras.types import Arrays


class Paths:
    """Tells of masks whether they leave a path, and in words what to do if not.

    Args:
        network: A `PrunableNetwork`. Where its model leaves sizes open, those are taken
            that its layers accept.

    Attributes:
        problem: Why it couldn't be told, if it couldn't.
    """

    def __init__(self, network: PrunableNetwork) -> None:
        self._network = network
        self.problem = "no size is known that its layers accept: give `input_shapes`"

    @functools.cached_property
    def _sized(self) -> PrunableNetwork | None:
        network = self._network
        return network if network.has_known_sizes else on_accepted_sizes(network)

    def are_left(self, masks: Arrays) -> bool | None:
        """Whether a path is left; None where that can't be told.

        Args:
            masks: List of boolean arrays, one a kernel of the network.
        """
        try:
            if self._sized is not None:
                return bool(total(self._sized.effective(masks)))
        except ValueError as error:  # a `call` that can't be followed, or a size
            self.problem = str(error)
        return None

    def empty(self, masks: Arrays) -> list[str]:
        """Names of the kernels that masks leave without a connection."""
        kernels = zip(self._network.kernels, masks, strict=True)
        return [kernel.label for kernel, mask in kernels if not mask.any()]

    def empty_in_words(self, masks: Arrays) -> str:
        """A sentence on the kernels without a connection."""
        names = ", ".join(self.empty(masks)) or "none"
        return f"Kernels without a connection: {names}."


def methods_with_paths(method: PruningMethod) -> str:
    """Names of the methods to take instead of one that left no path."""
    return "'synflow'" if isinstance(method, LAMP) else "'lamp' or 'synflow'"
