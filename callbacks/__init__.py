"""Lightning callbacks of training runs."""
