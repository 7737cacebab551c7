"""Sweeps: a scenario, axes of values for its keys, and one simulation for each point of their grid."""
