"""What is left of a network, as tables and as pictures (`scl_keras.plotting`)."""

from scl_keras.report.summary import SparsitySummary, summary

__all__ = ["SparsitySummary", "summary"]
