"""One mask over one kernel: its variable, its estimator, and what it switches."""
