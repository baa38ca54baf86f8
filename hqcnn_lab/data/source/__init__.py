"""How each collection lies on a disk, where its labels are, and how it is fetched."""
