"""What is left of a network, as tables and as pictures (`scl_keras.plotting`)."""

from scl_keras.report.groups import GroupCheck, check_groups
from scl_keras.report.summary import SparsitySummary, summary

__all__ = ["GroupCheck", "SparsitySummary", "check_groups", "summary"]
