"""runc's command line over `runtime/lifecycle`: one file per command, loaded only when it is the one asked for."""
