"""A small client of the edge's and the cloud's HTTP API."""
import http.client
import json
import math
import ssl
import time
import typing
import urllib.parse


class ApiError(Exception):
    def __init__(self, status, body):
        super().__init__(f"HTTP {status}: {body[:300]}")
        self.status = status
        self.body = body


class Caller(typing.NamedTuple):
    """Who asks, and what of a server with TLS is trusted."""
    key: str | None = None
    tls: ssl.SSLContext | None = None

    def connect(self, url, timeout_s):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=self.tls)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def headers(self, **more):
        return {**({"Authorization": f"Bearer {self.key}"} if self.key else {}), **more}


ANYBODY = Caller()


def request(method, url, body=None, timeout_s=600, caller=ANYBODY):
    """The parsed JSON answer; raises ApiError for any status but 2xx."""
    parts = urllib.parse.urlsplit(url)
    connection = caller.connect(url, timeout_s)
    try:
        data = None if body is None else json.dumps(body)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, data, caller.headers(**({"Content-Type": "application/json"} if data else {})))
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status // 100 != 2:
            raise ApiError(answer.status, text)
        return json.loads(text) if text.startswith(("{", "[")) else text
    finally:
        connection.close()


def chat(url, messages, **fields):
    return request("POST", f"{url}/v1/chat/completions", {"messages": messages, **fields})


# What a request may raise where the server refuses it, ends, or answers with something else than it should.
FAILURES = (OSError, ApiError, ValueError, http.client.HTTPException)


class Streamed:
    """What came of one streamed chat: text, when each piece came (seconds after the call), the last chunk's extension."""

    def __init__(self):
        self.text = ""
        self.first_event_s = None  # the first chunk that carries a token, whether or not it is text yet
        self.times_s = []
        self.x_celslm = None
        self.finish_reason = None
        self.usage = None

    @property
    def first_token_s(self):
        return self.times_s[0] if self.times_s else None

    @property
    def ms(self):
        """To the first token; infinite where none came: a request that failed or was refused is slower than any answer."""
        return math.inf if self.first_event_s is None else self.first_event_s * 1000

    def read(self, answer, start):
        """All events of an answer to a call that was made at `start`."""
        for raw in answer:
            line = raw.decode().strip()
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise ApiError(500, line)
            self.usage = chunk.get("usage") or self.usage
            self.x_celslm = chunk.get("x_celslm") or self.x_celslm
            for choice in chunk.get("choices", []):
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                has_token = choice.get("logprobs") or choice.get("delta", {}).get("content") or choice.get("finish_reason")
                if has_token and self.first_event_s is None:
                    self.first_event_s = time.monotonic() - start
                if piece := choice.get("delta", {}).get("content"):
                    self.times_s.append(time.monotonic() - start)
                    self.text += piece


def stream_chat(url, messages, timeout_s=600, **fields):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    out = Streamed()
    start = time.monotonic()
    try:
        body = {"messages": messages, "stream": True, **fields}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ApiError(answer.status, answer.read().decode(errors="replace"))
        out.read(answer, start)
    finally:
        connection.close()
    return out


def first_token(url, context, question="Go on.", max_tokens=2):
    """A greedy answer to `question` under `context`, for its time to the first token."""
    messages = [{"role": "system", "content": context}, {"role": "user", "content": question}]
    # Random weights may begin with bytes that are no text yet; log-probabilities make every token visible.
    return stream_chat(url, messages, temperature=0, max_tokens=max_tokens, logprobs=True)


def first_token_or_failure(*arguments, **fields):
    """The same; a request that failed is an answer that never came."""
    try:
        return first_token(*arguments, **fields)
    except FAILURES:
        return Streamed()
