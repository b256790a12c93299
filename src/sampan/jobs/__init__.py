"""Warm fork servers: a function run in a freshly forked process."""
