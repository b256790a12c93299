"""References, content store, layers, archives."""

import msgspec  # noqa: F401 - first of all: sampan.lean.structs then takes it, and all of this process is of one kind
