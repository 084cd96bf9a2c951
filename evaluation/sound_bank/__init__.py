"""The sound bank that pages and audio files are played with, and the command that cuts it."""
