"""Graph -> something that runs."""
