"""The run folder: its files, written whole or not at all, and read back within bounds."""
