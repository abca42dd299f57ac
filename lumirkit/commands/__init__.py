"""The command line: one file a command or a group, which parses arguments and calls one function."""
