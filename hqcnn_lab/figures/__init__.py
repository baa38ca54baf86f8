"""All that matplotlib draws, from plain numbers."""
