"""What one connection costs, relative to the others."""

COSTS = ("connections", "flops")


def connection_prices(variables, cost):
    """The price `c` of a connection behind each mask variable.

    Args:
        variables: List of mask variables.
        cost: `"connections"`: every connection costs 1. `"flops"`: it costs the number
            of positions it serves, and so of multiply-accumulates, over the mean of
            all connections; prices are 1 on average, whatever the network.

    Returns:
        Dict of floats by the `id` of the variable.

    Raises:
        ValueError: If the positions aren't known, see `macs.record_positions`.
    """
    if cost == "connections":
        return {id(v): 1.0 for v in variables}
    positions = known_positions(variables, "cost='flops'")
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
