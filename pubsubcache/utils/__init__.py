"""Helpers without models: XML and texts from strangers, JIDs, the shared clock, bounds."""
