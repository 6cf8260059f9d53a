"""8- and 16-bit images as arrays: colour, degradations, files, metrics."""
