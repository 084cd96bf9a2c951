"""Loss on held-out music, by context, position and unit."""
