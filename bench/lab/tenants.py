"""Two tenants of a fleet, the keys of their users, and those who try to get at the other tenant's contexts."""
import json
import secrets
import threading

from . import api

NAMES = ("acme", "other")
INTRUDERS = 1000  # keys of each tenant


class Tenants:
    """texts: which belong to one of the two each, in turn. tls: what users trust of edges."""

    def __init__(self, texts, tls):
        self.of_text = {text: NAMES[i % len(NAMES)] for i, text in enumerate(texts)}
        self._keys = []
        self.operator = self._caller("operator", tls, operator=True)
        self.user = {name: self._caller(name, tls, tenant=name) for name in NAMES}
        strangers = {name: [self._caller(f"{name}-{i}", tls, tenant=name) for i in range(INTRUDERS)] for name in NAMES}
        self._unread = [(strangers[self.other(text)][i], text) for i in range(INTRUDERS) for text in self.of_text]
        self._lock = threading.Lock()

    def _caller(self, name, tls, **fields):
        key = secrets.token_hex(32)
        self._keys.append({"name": name, "key": key, **fields})
        return api.Caller(key, tls)

    def write_keys(self, path):
        """For --keys."""
        path.touch(mode=0o600)
        path.write_text(json.dumps({"keys": self._keys}), encoding="utf-8")

    def other(self, text):
        """The tenant that the text does not belong to."""
        return next(name for name in NAMES if name != self.of_text[text])

    def unread(self):
        """(somebody of one tenant, a text of the other's), each pair once: KV that he finds of it is not his own. None
        when all are used up."""
        with self._lock:
            return self._unread.pop() if self._unread else None
