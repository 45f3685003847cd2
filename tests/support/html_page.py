"""A page of HTML as tests look at it: its tags and its words."""

from html.parser import HTMLParser

VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """Text and tags of a page; refuses tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def assert_asks_no_host(self):
        """Nothing is loaded or linked but the page's own parts."""
        for tag, attrs in self.tags:
            assert tag not in ("script", "img", "link", "iframe", "image", "object")
            for name, value in attrs.items():
                if name in ("src", "href", "xlink:href"):
                    assert value.startswith("#"), (tag, name, value)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())
