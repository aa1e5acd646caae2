"""Registers the built-in analysers; loaded by autodiscovery like the `pubsub_analysers` module of any app."""

from pubsubcache.analysers import builtin

builtin.register()
