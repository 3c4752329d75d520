"""Putting masks into a model, and taking them out."""
