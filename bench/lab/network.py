"""The link between a cloud and its edges, of a limited rate: network namespaces where allowed, a relay elsewhere."""
import contextlib
import ipaddress
import os
import random
import subprocess
import urllib.parse

from .programs import built


def _run(*argv):
    subprocess.run(argv, check=True, capture_output=True)


class Loopback:
    """Everything on loopback, without a limit."""

    description = "loopback"
    cloud_host = "127.0.0.1"
    cloud_prefix = ()

    def edge_host(self, _place):
        return "127.0.0.1"

    def edge_prefix(self, _place):
        return ()

    def cloud_url(self, url):
        """Where edges reach the cloud that listens at `url`."""
        return url


class RelayLink(Loopback):
    """Everything on loopback; edges reach the cloud through a rate-limited relay in user space."""

    def __init__(self, programs, rate_mbit):
        self._programs = programs
        self._rate_mbit = rate_mbit
        self.description = f"{rate_mbit:g} Mbit/s by a relay in user space"

    def cloud_url(self, url):
        port = urllib.parse.urlsplit(url).port
        relay = self._programs.start([built("celslm_relay"), "--to", f"127.0.0.1:{port}", "--listen", "127.0.0.1:0",
                                      "--rate", self._rate_mbit], f"relay-{port}")
        return relay.wait_listening()


class NamespaceLink(contextlib.AbstractContextManager):
    """A bridge in this namespace, one namespace per box, and the kernel's token bucket on both ends of the cloud's cable."""

    PLACES = ("cloud", "edge1", "edge2")

    def __init__(self, rate_mbit):
        # Not the process number: runs in different process namespaces have the same ones, and share this network.
        number = random.SystemRandom().randrange(0x10000)
        self._id = f"{number:04x}"
        self._rate_mbit = rate_mbit
        self._network = ipaddress.ip_network(f"10.{number % 200 + 20}.{number // 200 % 250}.0/24")
        self.description = f"{rate_mbit:g} Mbit/s by the kernel, between network namespaces"

    def __enter__(self):
        try:
            self._set_up()
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for place in self.PLACES:
            subprocess.run(["ip", "netns", "del", self._namespace(place)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)

    @property
    def _bridge(self):
        return f"cel{self._id}"

    def _namespace(self, place):
        return f"celslm-{self._id}-{place}"

    def _address(self, place):
        return str(self._network[2 + self.PLACES.index(place)])

    def _limit(self, device, prefix=()):
        _run(*prefix, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{self._rate_mbit}mbit", "burst", "64kb",
             "latency", "50ms")

    def _set_up(self):
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "address", "add", f"{self._network[1]}/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        for i, place in enumerate(self.PLACES):
            namespace, cable = self._namespace(place), f"cel{self._id}p{i}"
            inside = ("ip", "netns", "exec", namespace)
            _run("ip", "netns", "add", namespace)
            _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _run("ip", "link", "set", cable, "master", self._bridge, "up")
            _run(*inside, "ip", "address", "add", f"{self._address(place)}/24", "dev", "eth0")
            _run(*inside, "ip", "link", "set", "eth0", "up")
            _run(*inside, "ip", "link", "set", "lo", "up")
            if place == "cloud":
                self._limit("eth0", inside)
                self._limit(cable)

    @property
    def cloud_host(self):
        return self._address("cloud")

    @property
    def cloud_prefix(self):
        return ("ip", "netns", "exec", self._namespace("cloud"))

    def edge_host(self, place):
        return self._address(place)

    def edge_prefix(self, place):
        return ("ip", "netns", "exec", self._namespace(place))

    def cloud_url(self, url):
        return url


def namespaces_work():
    probe = f"celslm-probe-{os.getpid()}"
    try:
        _run("ip", "netns", "add", probe)
        _run("ip", "netns", "exec", probe, "true")
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "del", probe], check=False, capture_output=True)
    return True


@contextlib.contextmanager
def open_link(programs, rate_mbit):
    """A link for this run. Enter it on `programs`, so that it goes after the programs that use it."""
    if os.geteuid() == 0 and namespaces_work():
        with NamespaceLink(rate_mbit) as link:
            yield link
    else:
        yield RelayLink(programs, rate_mbit)
