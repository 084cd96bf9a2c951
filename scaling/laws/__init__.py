"""The laws, and the registry of them."""
