"""Sources of music: folders, archives, tables, the Hub, bundled and downloaded collections."""
