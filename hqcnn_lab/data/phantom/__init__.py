"""Images that need no download: generated, and written as files."""
