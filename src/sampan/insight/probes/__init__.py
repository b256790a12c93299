"""What `doctor` tries, a file per part of the kernel. Every file has `examine() -> list[Finding]`."""
