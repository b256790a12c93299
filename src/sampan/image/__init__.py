"""References, content store, layers, archives."""
