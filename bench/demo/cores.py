"""Which cores compute for whom. On one machine cloud and edge would slow each other down as two machines never do."""
import os
import typing


class Cores(typing.NamedTuple):
    cloud: list[int]
    edge: list[int]

    @property
    def apart(self):
        return not set(self.cloud) & set(self.edge)


def split(available=None):
    """A quarter of the cores for the edge, at least one; the rest for the cloud. Where there is only one, both get it."""
    cores = sorted(os.sched_getaffinity(0) if available is None else available)
    n_edge = max(1, len(cores) // 4)
    return Cores(cores[n_edge:] or cores, cores[:n_edge])


class PinnedLink:
    """A link (bench/lab/network.py) whose cloud and edges run on cores of their own."""

    def __init__(self, link, cores):
        self._link, self._cores = link, cores
        self.description = link.description
        self.cloud_host = link.cloud_host

    @property
    def cloud_prefix(self):
        return (*self._link.cloud_prefix, *pinned(self._cores.cloud))

    def edge_host(self, place):
        return self._link.edge_host(place)

    def edge_prefix(self, place):
        return (*self._link.edge_prefix(place), *pinned(self._cores.edge))

    def cloud_url(self, url):
        return self._link.cloud_url(url)


def pinned(cores):
    return ("taskset", "--cpu-list", ",".join(map(str, cores)))


def named(cores):
    """For people: core 0; cores 0 to 3."""
    if len(cores) == 1:
        return f"core {cores[0]}"
    return f"cores {cores[0]} to {cores[-1]}" if cores[-1] - cores[0] == len(cores) - 1 else \
        f"cores {', '.join(map(str, cores))}"
