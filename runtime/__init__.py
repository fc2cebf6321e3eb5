"""Basis of every command: errors for users, console, progress, devices, files, registries."""
