"""A trained model for other programs: bounded jobs over it, and the tools of an MCP server."""
