"""How fast the cache is, against asking the service and against the bare database: `python -m tests.benchmarks`."""
