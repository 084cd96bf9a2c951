"""From MIDI, ABC and scores to blocks of token ids."""
