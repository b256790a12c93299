"""Containers, images and networks as users know them."""
