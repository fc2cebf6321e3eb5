"""Base class of all errors for users. Its type alone separates errors in the input from bugs."""


class UserError(Exception):
    """An error that the user can fix. The message names the file or key, what was found and what was expected.

    Attributes:
        exit_status: Exit status of a command that raises it.
    """

    exit_status = 1


def message_of(error: BaseException) -> str:
    """Message of an error in one line. An error of the operating system begins with the file's name."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def first_line(error: BaseException) -> str:
    """First line of an error's message; its type if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def printable(text: str) -> str:
    """A text whose control characters, but for line breaks, are shown as escapes.

    Names and texts of foreign files could otherwise control the terminal.
    """
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1] for character in text
    )
