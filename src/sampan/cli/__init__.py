"""The sampan command."""
