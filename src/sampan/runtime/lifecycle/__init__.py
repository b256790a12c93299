"""Containers from OCI bundles (runtime-spec, runtime.md): their records on disk and what can be done with them."""
