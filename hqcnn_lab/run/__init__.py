"""One training: fit and test, resume, follow, and use what came of it."""
