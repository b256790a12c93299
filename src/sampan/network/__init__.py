"""Bridge, addresses, network namespaces kept ready, published ports."""
