"""`python -m sampan.runtime.command`."""

from sampan.runtime.command.main import main

main()
