"""Music that is neither MIDI nor our dialect -> tunes of the dialect; standard library only."""
