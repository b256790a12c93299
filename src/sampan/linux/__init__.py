"""What the kernel offers, typed and thin: no policy, no knowledge of containers."""
