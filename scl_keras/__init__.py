"""Sparse training for Keras 3."""
