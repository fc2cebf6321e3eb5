"""The base of every error that a person may read; whether something is the user's fault is a matter of type alone."""


class UserError(Exception):
    """Something a person can mend: the message names the file or key, what was found, what was expected.

    Attributes:
        exit_status: of a command that ends with it.
    """

    exit_status = 1


def message_of(error: BaseException) -> str:
    """An error's one line; a file's or disk's problem begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
