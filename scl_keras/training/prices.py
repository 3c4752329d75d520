"""What one connection costs, relative to the others."""

from scl_keras import checks

COSTS = ("connections", "macs")


def known_cost(cost, argument="cost"):
    """One of `COSTS`; `"flops"`, as multiply-accumulates were called, is `"macs"`.

    Raises:
        ValueError: If it is something else.
    """
    is_old_name = isinstance(cost, str) and cost == "flops"
    return checks.one_of(argument, "macs" if is_old_name else cost, COSTS)


def cost_for(runtime, cost=None):
    """What a model pays for that is made for a runtime.

    Args:
        runtime: One of `scl_keras.targets.RUNTIMES`, or None.
        cost: One of `COSTS`, or None for what serves the runtime: a smaller file is one
            of fewer connections, and all others want fewer multiply-accumulates.

    Returns:
        One of `COSTS`.

    Raises:
        ValueError: If `cost` is something else, or can't serve the runtime.
    """
    if cost is None:
        return "connections" if runtime in (None, "size") else "macs"
    cost = known_cost(cost)
    if runtime == "size" and cost == "macs":
        raise ValueError(
            "The model was made for a small file (`runtime='size'`), and "
            "multiply-accumulates don't tell how large it is. Received: cost='macs'"
        )
    return cost


def connection_prices(variables, cost):
    """The price `c` of a connection behind each mask variable.

    Args:
        variables: List of mask variables.
        cost: `"connections"`: every connection costs 1. `"macs"`: it costs the number
            of positions it serves, and so of multiply-accumulates, over the mean of
            all connections; prices are 1 on average, whatever the network.

    Returns:
        Dict of floats by the `id` of the variable.

    Raises:
        ValueError: If the positions aren't known, see `macs.record_positions`.
    """
    if cost == "connections":
        return {id(v): 1.0 for v in variables}
    positions = known_positions(variables, "cost='macs'")
    sizes = [v.connection_mask.size for v in variables]
    total = sum(p * size for p, size in zip(positions, sizes, strict=True))
    if not total:  # no mask at all, or none whose connections multiply anything
        return {id(v): 0.0 for v in variables}
    mean = total / sum(sizes)
    return {id(v): p / mean for v, p in zip(variables, positions, strict=True)}


def known_positions(variables, argument):
    """How many positions a connection behind each mask variable serves.

    Args:
        variables: List of mask variables.
        argument: What needs to know it, as the user wrote it.

    Returns:
        List of ints.

    Raises:
        ValueError: If one isn't known, see `macs.record_positions`.
    """
    positions = [v.connection_mask.positions for v in variables]
    unknown = [v.path for v, p in zip(variables, positions, strict=True) if p is None]
    if unknown:
        raise ValueError(
            f"`{argument}` needs a model that is built before `compile`, with inputs "
            "of a known size, to count the positions that each connection serves. "
            "Received unknown sizes for: " + ", ".join(unknown)
        )
    return positions
