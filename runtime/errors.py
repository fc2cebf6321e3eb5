"""The base of every error whose one line says all that a person needs."""


class UserError(Exception):
    """Something a person can mend: the message names the file or key, what was found and what was expected."""
