"""From the bytes of a file to the array that a network sees, once, by way of a cache."""
