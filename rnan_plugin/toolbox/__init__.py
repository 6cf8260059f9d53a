"""The one seam to BasicSR."""
