"""A page as its text has it, without a browser."""

import json
from collections import Counter
from html.parser import HTMLParser

ADDRESSES = ("src", "href", "srcset", "data", "action", "poster")


class Page(HTMLParser):
    """What a browser would find in the page: addresses to load, scripts, style, visible text, tables."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.addresses, self.text, self.ids = Counter(), [], [], []
        self.scripts, self.style, self.values = [], "", []
        self.policy, self.headings, self._within = "", [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags[tag] += 1
        self.addresses += [attributes[name] for name in ADDRESSES if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.values += [attributes["value"]] if tag == "data" else []
        self._within.append((tag, attributes.get("type", "")))
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        self.scripts += [(attributes.get("type", ""), "")] if tag == "script" else []

    def handle_endtag(self, tag):
        while self._within and self._within.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag = self._within[-1][0] if self._within else ""
        if tag == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif tag == "style":
            self.style += data
        elif data.strip():
            self.text.append(data.strip())
            self.headings += [data.strip()] if tag == "h2" else []

    def chart(self, name: str) -> dict:
        (embedded,) = [json.loads(text) for kind, text in self.scripts if kind == "application/json"]
        return embedded["charts"][name]
