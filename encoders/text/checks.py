"""What a text must be before any encoder reads it."""

from __future__ import annotations

from runtime.errors import UserError


class TextError(UserError):
    """A text that cannot be read; the message shows its beginning and says what to change."""


def require_fit(text: str, count: int, limit: int, unit: str) -> None:
    """Refuses a text that is empty or longer than an encoder reads; a cut text could say something else.

    Args:
        text: as typed.
        count: its length in the encoder's units, 0 where it holds no words.
        limit: the longest the encoder reads.
        unit: what is counted, in the plural.

    Raises:
        TextError: when it does not fit.
    """
    if not count:
        shown = f"{text!r} holds no words" if text.strip() else "the text is empty"
        raise TextError(f"emotion.text: {shown}; say how to speak, e.g. 'speak cheerfully', or leave it out")
    if count > limit:
        raise TextError(
            f"emotion.text: {text[:40]!r}... has {count} {unit}, the text encoder reads at most {limit}; "
            "shorten it to the words that say how to speak"
        )
