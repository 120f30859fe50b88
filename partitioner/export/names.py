"""Names that Kubernetes accepts, made of names that may be anything. Must not know objects."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from partitioner.errors import SpecError

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST = 50  # leaves room for the pod's name where Kubernetes makes a claim of a template


class Names:
    """DNS-1123 labels for things that may be called anything; the same thing gets the same name, two never share one."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, ...], str] = {}
        self._taken: set[str] = set()

    def of(self, *parts: str) -> str:
        """Return the name of a thing that these texts tell from others: joined, where that is a label, else near it."""
        if parts not in self._of:
            name = label = dns_label("-".join(parts))
            number = 2
            while name in self._taken:
                name, number = f"{label}-{number}", number + 1
            self._taken.add(name)
            self._of[parts] = name
        return self._of[parts]


def dns_label(text: str) -> str:
    """Return a DNS-1123 label for text: itself where it is one, else what is left of it and a hash of all of it.

    Examples
    --------
    >>> dns_label("chat"), dns_label("Chat Bot!")
    ('chat', 'chat-bot-3ee759')
    """
    if len(text) <= _LONGEST and _LABEL.fullmatch(text):
        return text
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", folded).strip("-")[: _LONGEST - 7].strip("-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{stem}-{digest}" if stem else f"x-{digest}"


def checked_label(text: object, what: str) -> str:
    """Return a DNS-1123 label as it is.

    Raises
    ------
    SpecError
        It is none.
    """
    if not isinstance(text, str) or not _LABEL.fullmatch(text):
        raise SpecError(f"{what} {text!r} is not a name of Kubernetes: small letters, digits and -, 1 to 63 of them")
    return text


def is_subdomain(text: object) -> bool:
    """Whether text is a DNS-1123 subdomain, as names of nodes are."""
    return isinstance(text, str) and len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None
