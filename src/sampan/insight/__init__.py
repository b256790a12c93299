"""What isolates, what limits, and why it died: answers from the running system."""
