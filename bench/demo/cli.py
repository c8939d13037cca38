"""One cloud, edges, a slow link between them: the main job.

With --fleet instead: 3 clouds, 12 edges and a Valkey server while they are killed and paused at random, on the small
models ('./dev bench fleet --help' has the method and the --json keys).

Runs on a real pair (Qwen2.5-Coder, 0.5B at the edge and 1.5B at the cloud) where it is here or may be fetched, else on the
small models that come with this project. Exit code 1 if anything differs from what it should be.

--json keys, of both families:
  family, machine, link, ok           ok: everything was as it should be
  exact                               the edge's tokens are the same, wherever its KV came from
real:
  document, models, cores             title; file names; numbers of the cores that computed for whom
  failures                            what failed of the sources, in words; answers come all the same
  loads.NAME                          alone, computing, ready, t4, again: the first reply, with first_token_ms, bytes,
                                      context_tokens, sources and layers (x_celslm.layers of docs/http-protocol.md)
  questions[]                         question, answers (any one counts), replies.HOW.text and .right
  right.HOW                           how many; HOW: alone (without the document), document, guided (only where there is
                                      guidance), large
trained:
  questions[]                         edge, question, steps, answer, correct, same_tokens, bytes, sources
  speed                               context_tokens, link_mbit, bytes, q8_bytes, same_tokens; milliseconds to the first
                                      token: local_ms, cloud_ms, cloud_cold_ms, q8_ms
"""
import argparse
import json
import pathlib
import signal
import subprocess
import sys

from ..benchmarks.fleet import Fleet
from ..lab import models, network
from ..lab.programs import ROOT, Programs, build
from ..lab.progress import machine
from . import cores, document, real, trained

EDGE, CLOUD = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("real", "trained"),
                        help="real: fetches the models if they are not here; trained: needs no network (default: real if "
                             "the models are here; else asks on a terminal, and runs the trained ones elsewhere)")
    parser.add_argument("--link", type=float, default=50, metavar="MBIT",
                        help="rate between cloud and edges (default: 50)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results to FILE too")
    parser.add_argument("--keep", action="store_true",
                        help="leave everything running until Ctrl-C and print a curl line to try")
    group = parser.add_argument_group("fleet")
    group.add_argument("--fleet", action="store_true", help="many clouds and edges that know each other through Valkey")
    group.add_argument("--minutes", type=float, default=3, help="that they are used and troubled (default: 3)")
    group = parser.add_argument_group("real")
    group.add_argument("--edge", type=models.gguf, metavar="GGUF", help=f"the small model (default: {EDGE})")
    group.add_argument("--cloud", type=models.gguf, metavar="GGUF", help=f"the large model (default: {CLOUD})")
    group.add_argument("--map", type=pathlib.Path, metavar="FILE", help="from the large model's KV to the small one's")
    group.add_argument("--document", type=pathlib.Path, default=document.MANUAL, metavar="FILE",
                       help='a text; its questions are beside it, in FILE.json: [{"q": ..., "answers": [...]}]')
    group = parser.add_argument_group("trained")
    group.add_argument("--tokens", type=int, default=2048, help="length of part two's context (default: 2048)")
    group.add_argument("--shape", default="qwen2.5-0.5b", help="of part two (default: qwen2.5-0.5b)")
    return parser.parse_args(argv)


def missing(options):
    """Names of the models that have to be fetched first."""
    wanted = [name for name, given in ((EDGE, options.edge), (CLOUD, options.cloud)) if given is None]
    return [name for name in wanted if models.pretrained(name) is None]


def agrees(names):
    known = json.loads((ROOT / "models" / "pretrained.json").read_text(encoding="utf-8"))
    print("The demo can run on real models, which have to be fetched once:")
    for name in names:
        print(f"  {known[name]['title']}: {known[name]['bytes'] / 1e6:,.0f} MB, licence {known[name]['licence']}")
    return input("Fetch them? Otherwise it runs on small models that are here. [Y/n] ").strip().lower() in ("", "y", "yes")


def fetch(names):
    return subprocess.run([ROOT / "scripts" / "models", *names], check=False).returncode == 0


def choose_family(options, absent, on_terminal):
    """'real' where its models are here when this returns."""
    if options.family == "trained":
        return "trained"
    if not absent:
        return "real"
    if options.family == "real":
        if not fetch(absent):
            sys.exit("demo: the models cannot be fetched; './dev demo --family trained' needs no network")
        return "real"
    if on_terminal and agrees(absent) and fetch(absent):
        return "real"
    print(f"Not here: {', '.join(absent)}. So this runs on the small models that come with the project; "
          "'--family real' fetches them.\n" if not on_terminal else "", end="")
    return "trained"


def demo_of(family, options, programs, link):
    if family == "trained":
        return trained.Demo(programs, link, options.link, options.tokens, options.shape)
    pair = real.Pair(options.edge or models.pretrained(EDGE), options.cloud or models.pretrained(CLOUD), options.map)
    return real.Demo(programs, link, pair, document.read(options.document), cores.split(), options.link)


def keep_running(programs, url, body):
    body_file = programs.folder / "request.json"
    body_file.write_text(json.dumps(body), encoding="utf-8")
    print(f"\nStill running. Try this in another terminal, then Ctrl-C here:\n\n"
          f"  curl -s {url}/v1/chat/completions -d @{body_file}\n", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def run_fleet(options):
    arguments = ["--minutes", str(options.minutes)]
    if options.json:
        arguments += ["--json", str(options.json)]
    result = Fleet().run(arguments)
    is_right = result["failed"] == result["wrong"] == result["cross_tenant"] == 0
    print(f"\nEverything as it should be: {'yes' if is_right else 'NO'}", flush=True)
    return 0 if is_right else 1


def end_in_peace():
    """From now on a signal changes nothing: what was started is being ended, and links are being removed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def run(options, family):
    with Programs() as programs:
        try:
            link = programs.enter_context(network.open_link(programs, options.link))
            print(f"Link between cloud and edges: {link.description}", file=sys.stderr)
            demo = demo_of(family, options, programs, link)
            result = {"family": family, "machine": machine(), "link": link.description, **demo.run()}
            print(f"\nEverything as it should be: {'yes' if result['ok'] else 'NO'}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            if options.keep:
                keep_running(programs, *demo.request())
        except BaseException:
            end_in_peace()
            programs.kill()
            raise
        end_in_peace()
    return 0 if result["ok"] else 1


def main(argv):
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.stdout.reconfigure(line_buffering=True)  # in a log, too, text comes before what it introduces
    try:
        options = parse_arguments(argv)
        if options.fleet:
            return run_fleet(options)
        family = choose_family(options, missing(options), sys.stdin.isatty() and sys.stdout.isatty())
        build("celslm", "celslm_relay")
        return run(options, family)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything it started has ended", file=sys.stderr)
        return 130
