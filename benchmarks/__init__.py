"""Side-by-side measurements against peers: `python -m benchmarks` in the repository's root.

    python -m benchmarks --workload cnn --against torch,ort --task infer,train --batch 1,32 --json results.json
    python -m benchmarks --report results.json      docs/performance.md, from results
    python -m benchmarks --compare COMMIT           this tree against another commit
    python -m benchmarks --scaling trine-torch      how a training step grows with its sizes

One process per contestant, so that thread pools do not fight; blocks of calls interleaved in shuffled order; medians of
blocks, and ratios paired round by round, so that a machine whose speed drifts does not favour anyone. Every contestant
starts from the same weights and inputs, and its outputs are checked against PyTorch's.
"""
