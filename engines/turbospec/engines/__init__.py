"""Starting engines with the adapter wired in, and made models to start them with."""
