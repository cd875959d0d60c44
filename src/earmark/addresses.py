"""Addresses in texts for people: none shows a user or a password."""

import re

FOR_TRAININGS = "?workflowType=machine_learning"
"""The end of a page's address in MLflow, which otherwise shows prompts and traces rather than trainings."""
_USER_INFORMATION = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")


def without_passwords(text: str) -> str:
    """Returns `text` without the user and the password of every address in it, such as `http://user:password@host`."""
    return _USER_INFORMATION.sub("", text)


def is_url(address: str) -> bool:
    """Returns whether an address is one of the web, not of a file."""
    return address.lower().startswith(("http://", "https://"))


def redact_url(url: str) -> str:
    """Returns a URL without the parts that may be secret: user, password, query and fragment."""
    return re.split(r"[?#]", without_passwords(url), maxsplit=1)[0]
