"""Starts and stops services as 'systemctl' does: services.py start|stop|restart|status|enable UNIT... Keeps a service's
process id and log in the folder SERVICES_FOLDER. A start returns when the service reports that it is ready.
"""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from unit_file import Unit

FOLDER = pathlib.Path(os.environ["SERVICES_FOLDER"])
CONFINED = pathlib.Path(__file__).with_name("confined.py")
PATIENCE_S = 120


def log_of(name):
    return FOLDER / f"{name}.log"


def process_of(name):
    """Its number, if it runs."""
    file = FOLDER / f"{name}.pid"
    if not file.exists():
        return None
    pid = int(file.read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return pid


def start(name):
    assert Unit(name)["Type"] == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, open(log_of(name), "a", encoding="utf-8") as log:
        manager.bind(f"\0celslm-test-{os.getpid()}-{name}")
        manager.settimeout(1)
        process = subprocess.Popen([sys.executable, CONFINED, name], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={**os.environ, "NOTIFY_SOCKET": f"@celslm-test-{os.getpid()}-{name}"},
                                   start_new_session=True)
        (FOLDER / f"{name}.pid").write_text(str(process.pid))
        for _ in range(PATIENCE_S):
            try:
                if manager.recv(4096).startswith(b"READY=1"):
                    return
            except TimeoutError:
                if process.poll() is not None:
                    break
    sys.exit(f"{name} is not ready; its log ends:\n{log_of(name).read_text()[-3000:]}")


def stop(name):
    pid = process_of(name)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + int(Unit(name)["TimeoutStopSec"])
    while process_of(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    if process_of(name):
        sys.exit(f"{name} did not stop in time")


def restart(name):
    stop(name)
    start(name)


def status(name):
    if process_of(name) is None:
        sys.exit(f"{name} does not run; its log ends:\n{log_of(name).read_text()[-3000:]}")
    print(f"{name} runs")


def enable(name):
    assert Unit(name)["WantedBy"]


def main():
    verb, *names = sys.argv[1:]
    for name in names:
        {"start": start, "stop": stop, "restart": restart, "status": status, "enable": enable}[verb](name)


if __name__ == "__main__":
    main()
