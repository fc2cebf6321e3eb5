"""``make nightly``: the nightly checks of the project's claims, as a list of commands, and their reports."""
