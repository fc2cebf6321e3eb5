"""Length check of texts, shared by the text encoders."""

from __future__ import annotations

from runtime.errors import UserError


class TextError(UserError):
    """Raised if a text has no words or is too long; the message shows its beginning and the next step."""


def require_fit(text: str, count: int, limit: int, unit: str) -> None:
    """Raises if a text is empty or longer than the encoder's limit; truncation could change its meaning.

    Args:
        text: Text of the user.
        count: Length in the encoder's units, 0 if it has no words.
        limit: Maximum length.
        unit: Name of the units, in the plural.

    Raises:
        TextError: If the text is empty or too long.
    """
    if not count:
        shown = f"{text!r} has no words" if text.strip() else "the text is empty"
        raise TextError(f"emotion.text: {shown}; describe how to speak, e.g. 'speak cheerfully', or leave it out")
    if count > limit:
        raise TextError(
            f"emotion.text: {text[:40]!r}... has {count} {unit}, expected at most {limit}; "
            "shorten it to the words that describe how to speak"
        )
