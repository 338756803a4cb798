"""One script for every actor runtime: `python -m benchmarks`, described in `docs/benchmarks.md`."""
