"""`python -m avatar` does what the command `avatar` does."""

from avatar.cli import main

main()
