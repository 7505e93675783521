"""The command line of training, a file for each command."""
