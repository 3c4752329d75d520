"""What a network may lose before its learning rate has fallen."""

import dataclasses

# Of what the learning rate costs, what a sparse network is trusted to get back. Less
# while weights are tuned: what won't hold is to go back at a rate that can still mend.
_WHILE_SEARCHING, _WHILE_TUNING = 0.5, 0.25


@dataclasses.dataclass
class Allowance:
    """What a metric may lose at present, if a bound is to hold in the end.

    Where the learning rate is `r` and falls to `r_end`, it may lose

    `bound + d_1 / 2 · (r - r_end) / r_1`

    with `d_1` what the dense network lost in an epoch at the rate `r_1`. When the rate
    falls, a dense network gets all of `d_1` back, and a sparse one often half of it.
    While weights are fine-tuned it is `d_1 / 4`.

    Attributes:
        bound: What may be lost in the end.
        per_rate: `d_1 / r_1`.
    """

    bound: float
    per_rate: float = 0.0

    def learn(self, drop: float, rate: float) -> None:
        """Takes in what the dense network lost in an epoch at a learning rate."""
        self.per_rate = max(drop, 0.0) / rate if rate > 0 else 0.0

    def at(self, above: float, is_tuning: bool) -> float:
        """What may be lost at present.

        Args:
            above: By how much the learning rate is above its last one, at least 0.
            is_tuning: Whether masks are frozen and weights are fine-tuned.
        """
        share = _WHILE_TUNING if is_tuning else _WHILE_SEARCHING
        return self.bound + share * self.per_rate * above
