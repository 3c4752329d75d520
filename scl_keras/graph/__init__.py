"""A model as a graph: its layers, their calls, their kernels and their work."""
