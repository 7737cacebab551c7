"""Advice: the shortest migration that keeps a downtime, and how sure that is."""
