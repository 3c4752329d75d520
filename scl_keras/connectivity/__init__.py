"""What is really connected: effective sparsity of any Keras graph."""

# These register their stand-ins.
from scl_keras.connectivity import attention, recurrent, time_distributed  # noqa: F401
from scl_keras.connectivity.compaction import compact
from scl_keras.connectivity.compaction_report import (
    CompactionReport,
    compaction_report,
)
from scl_keras.connectivity.reachability import ConnectionGraph, effective_masks
from scl_keras.connectivity.stand_ins import stand_in

__all__ = [
    "CompactionReport",
    "ConnectionGraph",
    "compact",
    "compaction_report",
    "effective_masks",
    "stand_in",
]
