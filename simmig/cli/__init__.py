"""The command line, one file a command. Each file imports what is slow inside the command: help comes at once."""
