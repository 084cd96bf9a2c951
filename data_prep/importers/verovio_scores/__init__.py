"""MusicXML, MEI and Humdrum by verovio: the file, the measures, the notes as they are played."""
