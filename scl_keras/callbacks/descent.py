"""The masks of a model on their way down, and the price that leads them."""

import keras
import numpy as np

from scl_keras import backend
from scl_keras.callbacks.closing import close_the_gap
from scl_keras.callbacks.steering import Steering, SteeringState
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.masks.freezing import all_frozen
from scl_keras.masks.start import start_from_magnitudes
from scl_keras.training.distiller import network_of
from scl_keras.training.loss_scaling import is_looking_for_its_scale
from scl_keras.training.optimizer import NO_COST


class Descent:
    """What callbacks that steer the number of connections do with masks and price.

    Args:
        model: The model that `fit` trains.
        optimizer: Its `SCLOptimizer`.
        budget: The `Budget` of what is counted.
    """

    def __init__(self, model, optimizer, budget):
        self.model, self.optimizer, self.budget = model, optimizer, budget
        self._steering: Steering | None = None

    def start(self, start):
        """Has a way begin: where masks start, at which rate and price."""
        optimizer = self.optimizer
        SteeringState(0, 0, 0, 0, 0).write(optimizer.steering)
        if start is not None and optimizer.masks_have_starts:
            start_from_magnitudes(self.budget.masks)
        optimizer.mask_rate.set(0.0)

    def forget(self):
        """Has the next way begin at the price that holds masks where they are now.

        To be called where masks were put elsewhere, which isn't to be taken for what
        the task's gradients did.
        """
        optimizer = self.optimizer
        balance = SteeringState.read(optimizer.steering).balance
        SteeringState(0, 0, 0, 0, 0).write(optimizer.steering)
        optimizer.connection_cost.assign(max(balance, 0.0))

    def rest(self):
        """Has masks stay where they are until `steer`."""
        self.optimizer.connection_cost.assign(NO_COST)

    def steer(self, planned, begin, steps, falls_from=lambda: 0.0):
        """Begins to steer at step `begin` of a way of `steps`, see `Steering`."""
        optimizer = self.optimizer
        if float(keras.ops.convert_to_numpy(optimizer.connection_cost)) < 0:
            optimizer.connection_cost.assign(0.0)  # masks needn't rest any more
        self._steering = Steering(
            optimizer,
            lambda count: self.budget.distance(self.heights(), count),
            planned,
            begin,
            steps,
            falls_from,
        )

    def begin_epoch(self):
        """Has the first step of an epoch looked at, after `steer`."""
        self._steering.begin_epoch()

    def look(self, done):
        """Moves the price after `done` steps, if it is time to, after `steer`."""
        if self._steering.is_due(done):
            backend.synchronize(self.model)
            self._steering.look(done)

    def count_skipped(self):
        """Begins to count skipped updates, for `check_epoch`."""
        self._skipped = int(self.optimizer.skipped_updates.numpy())

    def check_epoch(self, name, epoch, seen):
        """Refuses to cut where no batch has told which connections matter.

        Args:
            name: Of the callback that would cut.
            epoch: The epoch since `count_skipped`, from 0.
            seen: Its number of batches.

        Raises:
            ValueError: If there were no batches, or all of them were skipped.
        """
        skipped = int(self.optimizer.skipped_updates.numpy()) - self._skipped
        if not seen:
            problem = "there are no data: it had no batch"
        elif skipped >= seen and not is_looking_for_its_scale(self.model.optimizer):
            problem = f"all of its {seen} batches had NaN or infinite gradients"
        else:
            return
        raise ValueError(
            f"`{name}` can't tell which connections matter in epoch {epoch + 1}, since "
            f"{problem}. Look at the data, the loss and the learning rate. "
            f"Received: {seen} batches, {skipped} of them skipped"
        )

    def heights(self):
        """How far mask variables are above zero, see `Budget.heights`."""
        optimizer = self.optimizer
        optimizer.build(self.model.trainable_variables)  # if no step has done it yet
        prices = [optimizer.price_of(mask) for mask in self.budget.masks]
        return self.budget.heights(prices)

    def meet(self, count):
        """Cuts or restores the connections nearest to zero until so many are kept."""
        close_the_gap(self.budget, self.heights(), count)

    def grow(self, count):
        """Restores the connections nearest to zero until so many are kept.

        They come back with a weight of zero (as in Evci et al., arXiv 1911.11134). So
        the network computes the same, and has more to learn with.
        """
        kernels = prunable_kernels(network_of(self.model))
        masked = [kernel for kernel in kernels if kernel.mask is not None]
        before = [kernel.kept() for kernel in masked]
        self.meet(count)
        for kernel, kept in zip(masked, before, strict=True):
            variable = getattr(kernel.layer, kernel.name)
            values = keras.ops.convert_to_numpy(variable)
            variable.assign(np.where(kernel.kept() & ~kept, 0, values))

    def freeze(self, frozen):
        """Freezes the masks, or thaws them."""
        for mask in self.budget.learned:
            mask.frozen.assign(frozen)
        if frozen:
            self.optimizer.mask_rate.set(0.0)  # for masks that are thawed later

    @property
    def is_frozen(self):
        """Whether all masks are frozen."""
        return all_frozen(self.budget.learned)
