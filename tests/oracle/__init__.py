"""Histories of changes, faults and restarts, after which the cache is held against the service.

See docs/convergence.md.
"""
