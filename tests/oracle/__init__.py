"""Histories of changes, faults and restarts, after which the cache is compared with the service.

See docs/convergence.md.
"""
