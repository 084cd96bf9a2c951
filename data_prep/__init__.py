"""From MIDI files to blocks of token ids: converter, cleaning, selection, split, tokens, blocks."""
