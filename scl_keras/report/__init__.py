"""What is left of a network, as tables and as pictures."""
