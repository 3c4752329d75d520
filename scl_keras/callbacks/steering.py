"""The controller that has the number of connections follow a plan.

Mask variables fall by rate · λ an update, against what the task's gradients lift them.
The rate falls by a cosine meanwhile, see `MaskRate`.
The lift is observed: it is what a distance has not fallen by. (An integral of the
distance would wind up while no mask is near zero yet.)
"""

import dataclasses
import math

import keras
import numpy as np

_GAIN = 0.25
_HORIZON = 5  # looks
_LEAST_RATE = 0.01  # of the first one: the cost makes up for the rate until then


@dataclasses.dataclass
class SteeringState:
    """What the controller remembers from one look to the next.

    It is kept in a variable of the optimizer, so that it is saved with the model.

    Attributes:
        balance: The cost that would hold all mask variables where they are.
        distance: How far all had to fall at the last look, to meet the plan then.
        count: The number of connections that was planned, 0 before the first look.
        step: The training step of the last look.
        updates: The number of mask updates until then.
    """

    balance: float
    distance: float
    count: float
    step: float
    updates: float

    @classmethod
    def read(cls, variable: keras.Variable) -> "SteeringState":
        """The state that a variable of five numbers holds."""
        return cls(*keras.ops.convert_to_numpy(variable).tolist())

    def write(self, variable: keras.Variable) -> None:
        """Keeps the state in a variable of five numbers."""
        variable.assign(dataclasses.astuple(self))


class Steering:
    """Steers the connection cost of an optimizer.

    Args:
        optimizer: The `SCLOptimizer`.
        distance: Function from a number of connections to the distance by which all
            mask variables would have to fall for so many to be kept.
        planned: Function from a share of the way, from 0 to 1, to the number of
            connections planned then.
        begin: The training step from which on it steers.
        steps: Number of training steps of the whole way, those before included.
        falls_from: Function without arguments: the share of the way from which on the
            rate falls.
    """

    def __init__(self, optimizer, distance, planned, begin, steps, falls_from):
        self.optimizer, self.begin, self.steps = optimizer, begin, steps
        self._distance, self._planned = distance, planned
        self._falls_from = falls_from
        self._last_look, self._wait = -math.inf, 0

    @property
    def updates(self):
        """Number of mask updates of the whole way."""
        steps = self.steps - self.begin
        return int(steps * self.optimizer.mask_updates_per_step)

    @property
    def interval(self):
        """Number of mask updates from look to look."""
        return max(1, min(20, self.updates // 100))

    def begin_epoch(self):
        """Has the first step of an epoch looked at."""
        self._last_look = -math.inf

    def is_due(self, done):
        """Whether a look may be due after `done` training steps.

        It reads no variable: those of the optimizer are old, or on JAX not even there,
        until somebody synchronizes them.
        """
        return not 0 <= done - self._last_look < self._wait

    def look(self, done):
        """Looks at the masks after `done` steps, and moves the cost."""
        optimizer = self.optimizer
        if not optimizer.mask_updates_per_step:  # in an epoch that is the task's
            self._last_look, self._wait = done, math.inf
            return
        self._wait = self.interval  # there are no more updates than steps
        state = SteeringState.read(optimizer.steering)
        updates = int(keras.ops.convert_to_numpy(optimizer.mask_optimizer.iterations))
        elapsed = updates - state.updates
        goes_on = state.count > 0 and state.step <= done
        if goes_on and elapsed < self.interval:
            return
        rate = max(optimizer.mask_rate.now, self._least_rate)
        cost = float(keras.ops.convert_to_numpy(optimizer.connection_cost))
        if goes_on:
            fallen_short = self._distance(int(state.count)) - state.distance
            lift = fallen_short / (rate * elapsed)
            state.balance += _GAIN * (lift + cost - state.balance)
        else:
            state.balance = cost
        horizon = max(1, min(_HORIZON * self.interval, self.updates // _HORIZON))
        ahead = done + horizon / optimizer.mask_updates_per_step
        state.count = self._planned(self._share(ahead))
        state.distance = self._distance(state.count)
        state.step, state.updates = done, updates
        # The rate of a way of one update is that of its beginning.
        last = ahead if self.updates > 1 else done
        way = horizon * self._rate_between(done, last)
        cost = state.balance + state.distance / way
        optimizer.mask_rate.set(self._share(done), self._falls_from())
        optimizer.connection_cost.assign(max(cost, 0))
        state.write(optimizer.steering)
        self._last_look = done

    def _share(self, done):
        """The share of the way that is behind after some steps, a float from 0 on."""
        return (done - self.begin) / (self.steps - self.begin)

    @property
    def _least_rate(self):
        return max(_LEAST_RATE * self.optimizer.mask_rate.at(0.0), 1e-12)

    def _rate_between(self, begin, end):
        """The mean rate from one step to another."""
        shares = map(self._share, np.linspace(begin, end, 11))
        falls_from = self._falls_from()
        rates = [
            self.optimizer.mask_rate.at(min(share, 1.0), falls_from) for share in shares
        ]
        return max(float(np.mean(rates)), self._least_rate)
