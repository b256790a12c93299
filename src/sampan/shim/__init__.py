"""Launcher and shim: one small process per container."""
