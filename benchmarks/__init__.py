"""Side-by-side measurements against peers: `python -m benchmarks` in the repository's root.

One process per contestant, so that thread pools do not fight; blocks of calls interleaved in shuffled order; medians of
blocks, and ratios paired round by round, so that a machine whose speed drifts does not favour anyone. Every contestant
starts from the same weights and inputs, and its outputs are checked against PyTorch's.
"""
