"""Whether SCL with its defaults is anywhere the worse choice: each cell, by code.

A cell is won if SCL's mean is

- at least that of the best other method, by the seeds that both have, to within 0.3
  points or one standard deviation over seeds (the root mean square of both methods'
  own), whichever is more;
- at compressions of 10 and less not more than 0.5 points below that of the dense
  network trained as long;
- from a compression of 100 on not more than 0.2 points below that of SCL by the plain
  rule of its paper.

Methods that are less sparse than asked, or cut off in a run, don't count as the best
other; where SCL is that, the cell is lost. Nor do variants of SCL count: the distilled
one, for instance, had a teacher.
"""

import dataclasses
import math
import statistics

from comparison.cells import (
    as_asked,
    asked_compressions,
    cells_of,
    deviation,
    mean,
)
from comparison.methods import DENSE, METHODS, VARIANTS
from comparison.tasks import PROTOCOLS, title_of

WITHIN, BELOW_DENSE, BELOW_PLAIN = 0.3, 0.5, 0.2  # points

NOTE = (
    "The columns tell by how many points of accuracy SCL with its defaults is ahead "
    "of the best other method (in brackets: in standard deviations), of the dense "
    "network trained as long, and of SCL by the paper's plain rule. A cell is won if "
    f"SCL is at most {WITHIN} points or one standard deviation below the best other; "
    f"up to 10x, at most {BELOW_DENSE} points below dense; and from 100x on, at most "
    f"{BELOW_PLAIN} points below the plain rule."
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is said of a cell.

    Attributes:
        task: The `Task`.
        compression: What was asked for.
        seeds: Number of SCL's runs.
        accuracy: SCL's mean, in percent; None if it isn't as sparse as asked.
        other: The best other method, a key of `METHODS`, or None.
        ahead: Points by which SCL is ahead of it.
        deviation: Standard deviation of seeds, in points; 0 for one seed.
        to_dense: Points by which SCL is ahead of dense, or None.
        to_plain: Points by which it is ahead of the plain rule, or None.
    """

    task: object
    compression: float
    seeds: int
    accuracy: float | None
    other: str | None = None
    ahead: float | None = None
    deviation: float = 0.0
    to_dense: float | None = None
    to_plain: float | None = None

    def failures(self):
        """Why the cell is lost: a list of phrases, empty if it is won."""
        if self.accuracy is None:
            return ["cut off, or less sparse than asked for"]
        found = []
        if self.ahead is not None and self.ahead < -max(WITHIN, self.deviation):
            title = METHODS[self.other].title
            found.append(f"{-self.ahead:.2f} points below {title}")
        if (
            self.compression <= 10
            and self.to_dense is not None
            and self.to_dense < -BELOW_DENSE
        ):
            found.append(f"{-self.to_dense:.2f} points below dense")
        if (
            self.compression >= 100
            and self.to_plain is not None
            and self.to_plain < -BELOW_PLAIN
        ):
            found.append(f"{-self.to_plain:.2f} points below the plain rule")
        return found

    @property
    def title(self):
        """Where it is."""
        protocol = PROTOCOLS[self.task.protocol]
        return f"{title_of(self.task)}, {protocol}, {self.compression:g}x"


def claims_of(groups):
    """The claims of all cells where SCL and another method were run.

    Args:
        groups: Dict from tasks to results, as `cells.groups` makes it.
    """
    claims = []
    for task, results in groups.items():
        cells = cells_of(results)
        for compression in asked_compressions(results):
            ours = cells.get(("scl", compression))
            others = {
                name: some
                for (name, asked), some in cells.items()
                if asked == compression and name not in ("scl", *DENSE, *VARIANTS)
            }
            if ours and others:
                dense = cells.get(("dense", 1.0))
                plain = cells.get(("scl_plain", compression))
                claims.append(_claim(task, compression, ours, others, dense, plain))
    return claims


def _claim(task, compression, ours, others, dense, plain):
    if not as_asked(ours, compression):
        return Claim(task, compression, len(ours), None)
    others = {n: some for n, some in others.items() if as_asked(some, compression)}
    if plain and not as_asked(plain, compression):
        plain = None
    ahead = {name: _ahead(ours, some) for name, some in others.items()}
    ahead = {name: points for name, points in ahead.items() if points is not None}
    best = min(ahead, key=ahead.get, default=None)
    spread = [deviation(ours), deviation(others[best]) if best else 0.0]
    return Claim(
        task=task,
        compression=compression,
        seeds=len(ours),
        accuracy=100 * mean(ours),
        other=best,
        ahead=ahead.get(best),
        deviation=100 * math.sqrt((spread[0] ** 2 + spread[1] ** 2) / 2),
        to_dense=_ahead(ours, dense),
        to_plain=_ahead(ours, plain),
    )


def _ahead(ours, others):
    """Points by which ours are ahead, by the seeds that both have; None without."""
    pairs = [
        100 * (mine["accuracy"] - other["accuracy"])
        for mine in ours
        for other in others or ()
        if mine["setting"]["seed"] == other["setting"]["seed"]
    ]
    return statistics.mean(pairs) if pairs else None


def section(claims):
    """The claims as Markdown: which cells are lost, and a table of all."""
    lost = [claim for claim in claims if claim.failures()]
    lines = ["**Where SCL with its defaults is the worse choice**", ""]
    if lost:
        lines.append(f"{len(lost)} of {len(claims)} cells are lost:")
        lines.append("")
        lines += [f"- {c.title}: {', '.join(c.failures())}" for c in lost]
    else:
        lines.append(f"Nowhere: all {len(claims)} cells are won.")
    heads = ["cell", "seeds", "SCL", "best other", "ahead", "of dense", "of plain"]
    lines += ["", NOTE, "", f"| {' | '.join([*heads, ''])} |", "|" + "---|" * 8]
    lines += [f"| {' | '.join(_row(claim))} |" for claim in claims]
    return "\n".join(lines)


def _row(claim):
    other = "-" if claim.other is None else METHODS[claim.other].title
    ahead = _points(claim.ahead)
    if claim.ahead is not None and claim.deviation:
        ahead += f" ({claim.ahead / claim.deviation:+.1f})"
    return [
        claim.title,
        str(claim.seeds),
        "-" if claim.accuracy is None else f"{claim.accuracy:.2f}",
        other,
        ahead,
        _points(claim.to_dense),
        _points(claim.to_plain),
        "**lost**" if claim.failures() else "won",
    ]


def _points(value):
    return "-" if value is None else f"{value:+.2f}"
