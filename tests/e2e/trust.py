"""What the tests of trust share: requests that show keys and certificates, and clouds that lie."""
import http.server
import json
import threading
import urllib.error
import urllib.request


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def code(self):
        return self.json["error"]["code"]


def request(method, url, body=None, key=None, tls=None, headers=None):
    """Any answer, of whatever status."""
    sent = dict(headers or {})
    if key:
        sent["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    if data:
        sent["Content-Type"] = "application/json"
    wanted = urllib.request.Request(url, data, sent, method=method)
    try:
        with urllib.request.urlopen(wanted, timeout=120, context=tls) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode(errors="replace"))


def request_bytes(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


class LyingCloud:
    """Passes everything on to a cloud, and changes its answers: change(path, status, body) returns the body to send."""

    def __init__(self, cloud, change):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                headers = {name: self.headers[name] for name in ("Range", "If-None-Match") if name in self.headers}
                wanted = urllib.request.Request(cloud.url + self.path, headers=headers)
                try:
                    with urllib.request.urlopen(wanted, timeout=300) as answer:
                        status, got, body = answer.status, answer.headers, answer.read()
                except urllib.error.HTTPError as error:
                    with error:
                        status, got, body = error.code, error.headers, error.read()
                body = change(self.path, status, body)
                self.send_response(status)
                for name in ("Content-Type", "Content-Range", "ETag", "x-celslm-state"):
                    if name in got:
                        self.send_header(name, got[name])
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
