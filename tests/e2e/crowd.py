"""Many clients of one edge at once."""
import contextlib
import http.client
import json
import queue
import threading
import urllib.parse

from bench.lab import api

CONNECTIONS = 64


class Connection:
    """One kept-alive connection to an edge."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)

    def close(self):
        self.http.close()

    def ask(self, context, question):
        messages = [{"role": "user", "content": question}]
        if context:
            messages.insert(0, {"role": "system", "content": context})
        body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": 12})
        self.http.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise api.ApiError(answer.status, text)
        return json.loads(text)["choices"][0]["message"]["content"]


def run_many(edge, asked, expected):
    """Asks every case of `asked`, a context and a question each, over CONNECTIONS connections; returns what went wrong."""
    work, wrong = queue.SimpleQueue(), []
    for item in asked:
        work.put(item)

    def worker():
        with contextlib.closing(Connection(edge.url)) as connection, contextlib.suppress(queue.Empty):
            while True:
                context, question = work.get_nowait()
                try:
                    got = connection.ask(context, question)
                except (OSError, api.ApiError, http.client.HTTPException, KeyError) as error:
                    wrong.append(f"{question!r}: {error!r}")
                    return
                if got != expected[context, question]:
                    wrong.append(f"{question!r}: {got!r}, alone {expected[context, question]!r}")
    threads = [threading.Thread(target=worker) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert work.empty() or wrong, "requests were left"
    return wrong
