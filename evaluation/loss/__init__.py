"""Loss of held-out music, by context, position and unit."""
