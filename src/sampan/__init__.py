"""Sampan: a container engine. Three planks: images, namespaces, cgroups."""

__version__ = "0.1.0"
