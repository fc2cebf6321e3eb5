"""``make nightly``: the nightly checks of what the project claims, as a list of commands, and the reports of them."""
