"""Builds the three images and tries on real containers what they promise: `python -m benchmarks.images`."""
