"""Runs commands one after the other and resumes where it stopped: used by ``make demo`` and ``make nightly``."""
