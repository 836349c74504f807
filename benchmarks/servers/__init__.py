"""Real servers on loopback, and clients for them: for benchmarks/serving.py and the tests of compresslab.serving."""
