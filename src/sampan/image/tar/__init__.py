"""The tar format, apart from files: entries from bytes, bytes from entries (POSIX.1-2001 ustar and pax, GNU names)."""
