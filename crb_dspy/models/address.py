"""Addresses of servers: logins are taken out when they are read, and put back for the call."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator

from crb_dspy.errors import hide

_PARTS = re.compile(
    r"(?P<scheme>[a-zA-Z][\w+.-]*://)?(?:(?P<login>[^/?#]*)@)?(?P<place>[^@?#]*)(?:\?(?P<query>[^#]*))?"
)
# By address what was taken out of it: "user:password", and the query. Nothing writes it down.
_LOGINS: dict[str, tuple[str, str]] = {}


def bare(address: str) -> str:
    """Return an address without login and query, which are kept in memory and nowhere else.

    ValueError, without the text, for what is no address.
    """
    parts = _PARTS.fullmatch(address)
    if not parts or not parts["place"]:
        raise ValueError("must be an address as http://127.0.0.1:8000/v1, a password url-encoded")
    login, query = parts["login"] or "", parts["query"] or ""
    if not login and not query:
        return address
    plain = f"{parts['scheme'] or ''}{parts['place']}"
    _LOGINS[plain] = (login, query)
    for secret in (login, login.partition(":")[2], *re.split("[&=]", query)[1::2]):
        hide(secret)
        hide(unquote(secret))
    return plain


def whole(address: str) -> str:
    """Return an address with the login and query that this process took out of it."""
    login, query = _LOGINS.get(address, ("", ""))
    scheme, mark, rest = address.rpartition("://")
    before, after = f"{login}@" if login else "", f"?{query}" if query else ""
    return f"{scheme}{mark}{before}{rest}{after}"


Address = Annotated[str, AfterValidator(bare)]
