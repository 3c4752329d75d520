"""How far to compress next, by what the last epochs lost: `TargetAccuracy`'s rule."""

import dataclasses
import math

_MOST = math.log(1000)
_SLOWEST, _FASTEST = math.log(1.25), math.log(4)  # growth of an epoch
_FAR = 3  # times what may be lost: what no epoch brings back
_LEAST_ROOM = 0.1
_NEAR = math.log(1.1)


@dataclasses.dataclass
class CompressionSearch:
    """Finds the largest compression at which a network loses no more than it may.

    After each epoch it looks at the loss `d` (the drop of a metric from its baseline)
    at the logarithm `x` of the compression. While `d <= a`, with `a` what may be lost
    at present, `x` grows in the next epoch by

    `v · clip((a - d) / a, 0.1, 1)`

    with a speed `v` at which 1,000x would be reached in two thirds of the epochs. Where
    `d > a` it stays for an epoch, in which the network may recover, and for as long as
    another half of what came back in the last epoch would do; then `v` is halved. If it
    doesn't recover, or is far off, the search goes back to the last state that held, or
    to where it began, and from there half of the way. What holds within 10 % of a
    place that was given up opens the way beyond.

    Attributes:
        epochs: Number of epochs to search in.
        speed: `v`; by default as said, and 1.25x to 4x an epoch.
        held: The largest `x` that held; at first where it begins.
        lost: The smallest `x` that was given up.
        before: `d` at the last look if that didn't hold, else infinity.
    """

    epochs: int
    speed: float = 0.0
    held: float = 0.0
    lost: float = math.inf
    before: float = math.inf

    def __post_init__(self) -> None:
        if not self.speed:
            speed = 1.5 * _MOST / max(self.epochs, 1)
            self.speed = min(max(speed, _SLOWEST), _FASTEST)

    def look(self, x: float, drop: float, may_lose: float) -> tuple[float, bool]:
        """Decides on the next epoch.

        Args:
            x: Logarithm of the compression at present.
            drop: What the metric has lost at it; NaN if it is NaN.
            may_lose: What may be lost at present, a float >= 0.

        Returns:
            The logarithm of the compression to be reached in the next epoch, and
            whether to go back to the last state that held, or to the beginning.
        """
        if drop <= may_lose:
            return self._go_on(x, drop, may_lose), False
        back, self.before = self.before - drop, drop  # what came back: at first all
        is_far = not drop <= _FAR * may_lose
        if is_far or drop - back / 2 > may_lose:
            self.before, self.lost = math.inf, min(self.lost, x)
            return self._half_way(), True
        return x, False

    def _go_on(self, x, drop, may_lose):
        if self.before < math.inf:  # it has recovered
            self.speed, self.before = self.speed / 2, math.inf
        self.held = x
        if x > self.lost - _NEAR:  # as near as that it holds: it wasn't the number
            self.lost = math.inf
        room = (may_lose - drop) / may_lose if may_lose else 0.0
        growth = self.speed * min(max(room, _LEAST_ROOM), 1)
        return min(x + growth, self._half_way())

    def _half_way(self):
        return self.held + (self.lost - self.held) / 2
