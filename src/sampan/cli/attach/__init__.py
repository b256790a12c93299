"""The terminal's side of attach, exec and logs."""
