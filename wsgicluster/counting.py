"""Numbers with their nouns in log lines and messages: ``1 worker``, ``2 workers``."""


def count_of(number: int, noun: str, plural: str = "") -> str:
    """The number and the noun, or its plural (the noun with an s by default); both may be several words."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
