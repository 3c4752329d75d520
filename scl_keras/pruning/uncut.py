"""A network with fixed masks, as it would be without them."""

import keras

from scl_keras.pruning.network import PrunableNetwork


class UncutNetwork(PrunableNetwork):
    """A network as it would be without the masks that move: what they cut has values.

    Attributes:
        moving: List of the numbers of the kernels that are trained.
    """

    def __init__(self, model):
        super().__init__(model)
        trained = {id(v) for v in model.trainable_variables}
        kernels = [getattr(kernel.layer, kernel.name) for kernel in self.kernels]
        self.moving = [
            i
            for i, (kernel, values) in enumerate(
                zip(self.kernels, kernels, strict=True)
            )
            if id(values) in trained
            # LoRA's is a sum.
            or (not isinstance(values, keras.Variable) and kernel.layer.trainable)
        ]
        if not self.moving:
            raise ValueError(
                f"Model '{model.name}' has no mask to prune: all of its masked layers "
                f"have `trainable=False`. Received: {len(self.kernels)} masks"
            )

    def still_kept(self):
        """Number of connections that the other kernels keep."""
        others = set(range(len(self.kernels))) - set(self.moving)
        return sum(int(self.kernels[i].kept().sum()) for i in others)

    def kept(self):
        """As of `PrunableNetwork`; all of the kernels that are trained."""
        moving = set(self.moving)
        return [k | (i in moving) for i, k in enumerate(super().kept())]

    def weights(self):
        """As of `PrunableNetwork`, with what masks of these cut."""
        kernels = zip(self.kernels, self.kept(), strict=True)
        return [self._values(kernel) * kept for kernel, kept in kernels]
