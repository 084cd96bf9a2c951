"""One ABC tune of our dialect: read, print, change the layout; see DIALECT.md."""
