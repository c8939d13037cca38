"""llama-server as the peer of benchmarks."""
from . import api
from .programs import Program, wait_until

PORT = 18480


def start_llama_server(model, threads, context, slots, folder, *arguments):
    """Serving when this returns, with flash attention and f16 KV; the caller stops it. Returns the program and its URL."""
    server = Program(["llama-server", "-m", model, "-t", threads, "-c", context, "-np", slots, "-fa", "on", "--port", PORT, "--host", "127.0.0.1",
                      *arguments], "peer", folder)
    url = f"http://127.0.0.1:{PORT}"
    try:
        wait_until(lambda: healthy(url), "llama-server", timeout_s=120)
    except BaseException:
        server.stop()
        raise
    return server, url


def healthy(url):
    try:
        return api.request("GET", f"{url}/health", timeout_s=5)["status"] == "ok"
    except (OSError, api.ApiError, KeyError, TypeError):
        return False
