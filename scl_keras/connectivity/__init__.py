"""What is really connected: effective sparsity of any Keras graph."""

from scl_keras.connectivity import rules  # noqa: F401
from scl_keras.connectivity.channel_rules import ELEMENTWISE
from scl_keras.connectivity.compaction import compact
from scl_keras.connectivity.compaction_report import (
    CompactionReport,
    compaction_report,
)
from scl_keras.connectivity.layer_rules import (
    KeptChannels,
    LayerRule,
    register_rule,
    rule_of,
    stand_in,
)
from scl_keras.connectivity.reachability import ConnectionGraph, effective_masks

__all__ = [
    "ELEMENTWISE",
    "CompactionReport",
    "ConnectionGraph",
    "KeptChannels",
    "LayerRule",
    "compact",
    "compaction_report",
    "effective_masks",
    "register_rule",
    "rule_of",
    "stand_in",
]
