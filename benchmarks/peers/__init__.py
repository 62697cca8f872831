"""GRAPE beside other programs: `python -m benchmarks.peers`."""
