"""What people start: the `llama3` command line and the look at one's own machine."""
