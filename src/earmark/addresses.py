"""Addresses in texts for people: none shows a user or a password."""

import re

FOR_TRAININGS = "?workflowType=machine_learning"
"""The end of a page's address in MLflow, which otherwise shows prompts and traces rather than trainings."""
_USER_INFORMATION = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")


def without_passwords(text: str) -> str:
    """Returns `text` without the user and the password of every address in it, such as `http://user:password@host`."""
    return _USER_INFORMATION.sub("", text)
