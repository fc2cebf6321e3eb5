"""Diffusion: noise schedules, DDIM, and overlapped windows. Knows no network."""
