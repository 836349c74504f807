"""What the README claims, reproducible: `python -m benchmarks.NAME [--quick]`."""
