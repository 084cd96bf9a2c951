"""One MIDI file to one tune: events, grid, voices."""
