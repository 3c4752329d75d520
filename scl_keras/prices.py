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
    masks = [v.connection_mask for v in variables]
    unknown = [v.path for v in variables if v.connection_mask.positions is None]
    if unknown:
        raise ValueError(
            "`cost='flops'` needs a model that is built before `compile`, with inputs "
            "of a known size, to count the positions that each connection serves. "
            "Received unknown sizes for: " + ", ".join(unknown)
        )
    total = sum(mask.positions * mask.size for mask in masks)
    if not total:  # no mask at all, or none whose connections multiply anything
        return {id(v): 0.0 for v in variables}
    mean = total / sum(mask.size for mask in masks)
    return {id(v): v.connection_mask.positions / mean for v in variables}
