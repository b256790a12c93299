"""A container from an OCI runtime spec and a root file system."""
