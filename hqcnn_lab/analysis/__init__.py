"""Figures that put a score in its place."""
