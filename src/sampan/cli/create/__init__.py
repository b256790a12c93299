"""The body of a container create request, from the options of `run` and `create`."""
