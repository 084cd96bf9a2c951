"""One ABC tune of our dialect: read, print, re-lay; DIALECT.md says what it is."""
