"""Schedules of gradual pruning, with the names and formulas of TFMOT."""

import dataclasses

import numpy as np

from scl_keras import checks


@dataclasses.dataclass(frozen=True)
class ConstantSparsity:
    """The same sparsity in every step from `begin_step` on.

    As `tfmot.sparsity.keras.ConstantSparsity`.

    Args:
        target_sparsity: Float in [0, 1).
        begin_step: First step that prunes, counted from 0.
        end_step: Last step that may prune; -1 for no last one.
        frequency: Masks are updated every `frequency` steps, from `begin_step` on.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    ```python
    ConstantSparsity(0.9, begin_step=1000)(5000)  # 0.9
    ```
    """

    target_sparsity: float
    begin_step: int
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self):
        _check(self, "target_sparsity")
        if self.end_step != -1 and self.end_step < self.begin_step:
            raise _wrong_end(self)

    def __call__(self, step: int) -> float:
        """The sparsity at a step, a float."""
        return self.target_sparsity

    def is_due(self, step: int) -> bool:
        """Whether masks are updated at a step."""
        return _is_due(self, step)


@dataclasses.dataclass(frozen=True)
class PolynomialDecay:
    """A sparsity that rises fast at first, and then ever slower.

    `s(t) = s_f + (s_0 - s_f) · (1 - (t - begin_step) / (end_step - begin_step))^power`
    (Zhu & Gupta, *To prune, or not to prune*, arXiv 1710.01878). As
    `tfmot.sparsity.keras.PolynomialDecay`.

    Args:
        initial_sparsity: Float in [0, 1), the sparsity `s_0` to begin with.
        final_sparsity: Float in [0, 1), the sparsity `s_f` to end with.
        begin_step: First step that prunes, counted from 0.
        end_step: Last step that may prune.
        power: Exponent, a finite number above 0.
        frequency: Masks are updated every `frequency` steps, from `begin_step` on.
            Where `end_step - begin_step` is no multiple of it, the last of these comes
            before `final_sparsity` is reached, as in TFMOT; `GradualPruning` makes one
            more at `end_step`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    ```python
    PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)(500)  # 0.7
    ```
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float = 3
    frequency: int = 100

    def __post_init__(self):
        _check(self, "initial_sparsity", "final_sparsity")
        checks.number("power", self.power, "a finite number > 0", lambda x: x > 0)
        if self.end_step <= self.begin_step:
            raise _wrong_end(self)

    def __call__(self, step: int) -> float:
        """The sparsity at a step, a float."""
        passed = (step - self.begin_step) / (self.end_step - self.begin_step)
        rest = (1 - float(np.clip(passed, 0, 1))) ** self.power
        return (
            self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest
        )

    def is_due(self, step: int) -> bool:
        """Whether masks are updated at a step."""
        return _is_due(self, step)


def _is_due(schedule, step):
    in_range = schedule.begin_step <= step and (
        step <= schedule.end_step or schedule.end_step < 0
    )
    return in_range and (step - schedule.begin_step) % schedule.frequency == 0


def _check(schedule, *sparsities):
    """Checks what all schedules have, and keeps whole numbers as ints."""
    for name in sparsities:
        wanted = "a number in [0, 1)"
        checks.number(name, getattr(schedule, name), wanted, lambda x: 0 <= x < 1)
    for name, least in (("begin_step", 0), ("end_step", -1), ("frequency", 1)):
        wanted = f"a whole number >= {least}"
        step = checks.integer(name, getattr(schedule, name), wanted, least)
        object.__setattr__(schedule, name, step)


def _wrong_end(schedule):
    return ValueError(
        "`end_step` must come after `begin_step`. Received: "
        f"begin_step={schedule.begin_step}, end_step={schedule.end_step}"
    )
