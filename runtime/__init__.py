"""What every command stands on: errors a person reads, console, progress, devices, files."""
