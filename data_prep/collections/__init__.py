"""Where music comes from: folders, archives, tables, the Hub, bundled and downloaded."""
