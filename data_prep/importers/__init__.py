"""Music of every kind -> tunes of the dialect; ABC of others by the standard library alone."""
