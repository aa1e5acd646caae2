"""Helpers that do not depend on models: XML and text from remote entities, JIDs, the shared clock, limits."""
