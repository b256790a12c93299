"""The standards' data types. Nothing here does anything."""
