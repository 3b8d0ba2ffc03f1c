"""Data in, numbers out: data, training, evaluation, checkpoints, runs."""
