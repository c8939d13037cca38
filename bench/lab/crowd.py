"""Thousands of plain connections to one server from one process: those that wait, those that are slow on purpose."""
import multiprocessing
import resource
import selectors
import socket
import time
import urllib.parse

SLOW_KINDS = ("header", "body", "read")
STEP_S = 0.5  # how often a slow client sends a few bytes


def raise_file_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def connect(url, receive_buffer=None, timeout_s=30):
    at = urllib.parse.urlsplit(url)
    out = socket.socket()
    if receive_buffer:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    out.settimeout(timeout_s)
    out.connect((at.hostname, at.port))
    out.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return out


def get(path, close=False):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n".encode()


def idle_connections(url, n):
    """Each has had an answer and waits for its next request."""
    out = []
    for _ in range(n):
        client = connect(url)
        client.sendall(get("/health"))
        if not client.recv(4096).startswith(b"HTTP/1.1 200"):
            raise ConnectionError("an idle connection got no answer")
        out.append(client)
    return out


def probe(url, n, pause_s):
    """Milliseconds of n requests to /health, every other one on a connection of its own; infinite if it failed."""
    kept = connect(url)
    times = []
    for i in range(n):
        began = time.monotonic()
        try:
            client = connect(url) if i % 2 else kept
            client.sendall(get("/health", close=bool(i % 2)))
            answered = client.recv(4096).startswith(b"HTTP/1.1 200")
            if i % 2:
                client.close()
        except OSError:
            answered = False
        times.append((time.monotonic() - began) * 1000 if answered else float("inf"))
        time.sleep(pause_s)
    kept.close()
    return times


def probed(url, n=1000, pause_s=0.005):
    """probe() in a process of its own, so that this one's work is not in the times."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(probe, (url, n, pause_s))


class SlowClients:
    """n clients of a kind in a process of their own, from the beginning of the block to its end; those that are thrown out
    come again. big_path: what slow readers ask for."""

    def __init__(self, url, kind, n, big_path):
        self._stop = multiprocessing.Event()
        self._begun = multiprocessing.Event()
        self._process = multiprocessing.get_context("fork").Process(
            target=be_slow, args=(url, kind, n, big_path, self._begun, self._stop), daemon=True)

    def __enter__(self):
        self._process.start()
        if not self._begun.wait(120):
            raise TimeoutError("the slow clients did not come to connect")
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._process.join()


def be_slow(url, kind, n, big_path, begun, stop):
    raise_file_limit()
    begin = {"header": b"GET /health HTTP/1.1\r\nX: ",
             "body": b"POST /v1/contexts HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
             "read": get(big_path)}[kind]

    def fresh():
        client = connect(url, receive_buffer=4096 if kind == "read" else None)
        client.sendall(begin)
        return client

    clients = [fresh() for _ in range(n)]
    begun.set()
    while not stop.wait(STEP_S):
        for i, client in enumerate(clients):
            try:
                if kind != "read":
                    client.send(b"x")
            except OSError:
                client.close()
                clients[i] = fresh()


def follow(url, path, n, timeout_s):
    """n clients that read the same stream to its end: the bodies of those that came to it, and the seconds until then."""
    began = time.monotonic()
    ready = selectors.DefaultSelector()
    got = {}
    for _ in range(n):
        client = connect(url)
        client.sendall(get(path, close=True))
        client.setblocking(False)
        got[client] = bytearray()
        ready.register(client, selectors.EVENT_READ)
    ends = []
    while len(ends) < n and time.monotonic() - began < timeout_s:
        for key, _ in ready.select(1):
            data = key.fileobj.recv(1 << 16)
            got[key.fileobj] += data
            if not data:
                ends.append(time.monotonic() - began)
                ready.unregister(key.fileobj)
                key.fileobj.close()
    return [body for body in map(body_of, got.values()) if body is not None], ends


def body_of(answer):
    """Of a complete chunked answer; None of any other."""
    head, _, chunks = bytes(answer).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return None
    body = b""
    while True:
        size, _, chunks = chunks.partition(b"\r\n")
        if not size:
            return None
        if size == b"0":
            return body
        body, chunks = body + chunks[:int(size, 16)], chunks[int(size, 16) + 2:]
