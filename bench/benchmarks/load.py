"""load: time to first token when a context is fetched and computed at once, against either alone, a bound, llama-server.

Random weights in the shape of Qwen2.5-0.5B (Q4_0): speed only. Sources are a cloud and neighbouring edges, each behind a
link of its own (a relay in user space, with a rate and a delay). Every edge has loaded another, short context over the
same links before it is measured, as an edge that runs for more than a moment has. In turn, `--runs` times, medians:
  ours      fetching and computing at once (the default)
  download  computing nothing (--prefer energy)
  local     no cloud
and of each the same request again, with the context in memory: what the user's own tokens and HTTP take.
  bound     min over k of max(compute k layers, fetch the others), plus the time with the context in memory; from the
            measured local and download, each spread evenly over the layers
llama-server prefills (peer_cold_ms), and restores its saved slot file fetched over the same (cloud's) link
(peer_restore_ms), asked something else than was asked when it was saved.

--json keys (milliseconds; null: the request failed, or was not measured):
  machine, model, runs
  cases[].context_tokens, cases[].sources, cases[].link_mbit, cases[].rtt_ms    the case; sources: how many
  cases[].ttft_ms, cases[].local_ms, cases[].download_ms, cases[].resident_ms   medians; resident: with the context in memory
  cases[].ttft_spread, cases[].local_spread, cases[].download_spread            [least, most]
  cases[].bound_ms, cases[].self_ratio     self_ratio: ours / ours again, in the same rounds: what differs where nothing does
  cases[].layers                           {source: how many layers came from there}, of the last run
  cases[].load                             the load's own figures (x_celslm.load), of the last run
  cases[].peer_cold_ms, cases[].peer_restore_ms
  faults.runs, faults.failed, faults.wrong     with --faults; wrong: another answer than a local prefill's
  faults.ttft_p99_over_local                   from the moment of the fault, as a multiple of a local prefill
  faults.worst_by_fault                        {source and fault: the same, the most}
  faults.local_ms, faults.usual_ms             a local prefill, a load without a fault
  timeline.context_tokens, timeline.link_mbit  with --timeline: one request
  timeline.layers[].source, timeline.layers[].ms    where and when each layer came
"""
import json

from ..benchmark import Benchmark, Picture, ms, numbers, random_model, random_model_name, times
from ..chart import Chart
from ..lab.faults import run_faults
from ..lab.peer import SavedSlot
from ..lab.programs import Programs
from ..lab.progress import Progress, table
from ..lab.site import SHORT_TOKENS, Site
from ..measure import in_turn, median, ratio, self_ratio, spread

TINY = ("--shape", "tiny", "--threads", "1", "--tokens", "96", "--short", "32", "--rtts", "0")


class Load(Benchmark):
    targets = ("celslm", "celslm_relay")
    runs = 3
    against_self = False
    on_random_model = True
    smoke = ((*TINY, "--links", "50,100", "--sources", "1,2", "--runs", "1", "--self"),
             (*TINY, "--links", "50", "--sources", "1", "--faults", "4"),
             (*TINY, "--links", "50", "--sources", "2", "--timeline", "/dev/null"))

    def add_arguments(self, parser):
        parser.add_argument("--faults", type=int, default=0, metavar="N",
                            help="measure N loads with a fault at a random moment only")
        parser.add_argument("--tokens", type=numbers, default=[512, 2048, 8192],
                            help="lengths of contexts (default: 512,2048,8192)")
        parser.add_argument("--links", type=numbers, default=[5, 20, 50, 100, 200, 1000],
                            help="Mbit/s, of each source (default: 5,20,50,100,200,1000)")
        parser.add_argument("--rtts", type=numbers, default=[0, 20, 200], help="milliseconds (default: 0,20,200)")
        parser.add_argument("--sources", type=numbers, default=[1, 3],
                            help="how many: the cloud first, then neighbours (default: 1,3)")
        parser.add_argument("--short", type=int, default=SHORT_TOKENS, metavar="TOKENS",
                            help=f"of the context that is loaded first (default: {SHORT_TOKENS})")
        parser.add_argument("--no-peer", action="store_true", help="without llama-server")

    def measure(self, options):
        result = {"model": random_model_name(options), "runs": options.runs, "cases": [], "faults": None, "timeline": None}
        with Programs() as programs:
            site = open_site(programs, options, options.tokens[0])
            if options.timeline:
                result["timeline"] = measure_timeline(site, options)
            elif options.faults:
                result["faults"] = run_faults(site, options.faults, options.links[0])
            else:
                result["cases"] = measure_length(site, options)
                for n_tokens in options.tokens[1:]:
                    result["cases"] += measure_length(open_site(programs, options, n_tokens), options)
        return result

    def show(self, result):
        if result["faults"]:
            print(json.dumps(result["faults"]))
        if result["timeline"]:
            print(", ".join(f"{layer['source']} {layer['ms']:.0f} ms" for layer in result["timeline"]["layers"]))
        if result["cases"]:
            print(f"Time to first token, milliseconds, medians of {result['runs']}; {result['model']}; {result['machine']}",
                  end="\n\n")
            print(table([row_of(case) for case in result["cases"]],
                        ["context", "sources", "Mbit/s", "rtt", "ours", "local", "download", "bound", "/bound", "/best",
                         "ours / ours", "llama cold", "llama restore", "layers"]))

    def pictures(self):
        return [Picture(("--plot", "--svg"), "the cases", cases_charts),
                Picture(("--timeline",), "measure one request only: its layers over time", timeline_charts)]


def open_site(programs, options, n_tokens):
    return Site(programs, random_model(options), n_tokens, max(options.sources) - 1, options.short, preset=options.preset,
                threads=options.threads)


def measure_length(site, options):
    saved = None
    if not options.no_peer:
        saved = SavedSlot(site, site.long, site.n_tokens)
        saved.save()
    cases = []
    for mbit in options.links:
        for rtt_ms in options.rtts:
            for n_sources in options.sources:
                with Progress(f"{site.n_tokens} tokens, {n_sources} sources of {mbit:g} Mbit/s, {rtt_ms:g} ms") as progress:
                    figures = measure_case(site, n_sources, mbit, rtt_ms, options, progress)
                    if saved:
                        figures.update(peer_cold_ms=saved.cold_ms, peer_restore_ms=saved.restore_ms(mbit, rtt_ms))
                cases.append(figures)
    site.stop()
    return cases


def measure_case(site, n_sources, mbit, rtt_ms, options, progress):
    sources = site.sources(n_sources, mbit, rtt_ms)
    subjects = {"ours": lambda: site.load(*sources), "download": lambda: site.load(*sources, "--prefer", "energy"),
                "local": lambda: site.load(*site.local_arguments)}
    if options.against_self:
        subjects["self"] = subjects["ours"]
    runs = in_turn(subjects, options.runs, progress=progress)
    taken = {name: [loaded.ms for loaded in loads] for name, loads in runs.items()}
    last = next((loaded.extension for loaded in reversed(runs["ours"]) if loaded.extension), {})
    resident_ms = median([loaded.resident_ms for loaded in runs["ours"]])
    local_ms, download_ms = median(taken["local"]), median(taken["download"])
    return {"context_tokens": last.get("context_tokens"), "sources": n_sources, "link_mbit": mbit, "rtt_ms": rtt_ms,
            "ttft_ms": median(taken["ours"]), "local_ms": local_ms, "download_ms": download_ms, "resident_ms": resident_ms,
            "ttft_spread": spread(taken["ours"]), "local_spread": spread(taken["local"]),
            "download_spread": spread(taken["download"]), "self_ratio": self_ratio(taken), "layers": count_layers(last),
            "load": last.get("load"), "bound_ms": bound_ms(local_ms, download_ms, resident_ms, len(last.get("layers", []))),
            "peer_cold_ms": None, "peer_restore_ms": None}


def bound_ms(local_ms, download_ms, resident_ms, n_layers):
    compute, fetch = max(0, local_ms - resident_ms), max(0, download_ms - resident_ms)
    return resident_ms + min(max(compute * k, fetch * (n_layers - k)) / max(1, n_layers) for k in range(n_layers + 1))


def count_layers(extension):
    out = {}
    for layer in extension.get("layers", []):
        out[layer["source"]] = out.get(layer["source"], 0) + 1
    return out


def measure_timeline(site, options):
    mbit = options.links[0]
    extension = site.load(*site.sources(max(options.sources), mbit, options.rtts[0])).extension
    layers = [{"source": layer["source"], "ms": layer["ms"]} for layer in extension["layers"]]
    return {"context_tokens": extension["context_tokens"], "link_mbit": mbit, "layers": layers}


def row_of(c):
    best = min((value for value in (c["local_ms"], c["download_ms"]) if value is not None), default=None)
    layers = ", ".join(f"{n} {source}" for source, n in c["layers"].items())
    peer = [ms(c["peer_cold_ms"]), ms(c["peer_restore_ms"])] if c["peer_cold_ms"] else ["", ""]
    return [c["context_tokens"], c["sources"], f"{c['link_mbit']:g}", f"{c['rtt_ms']:g}", ms(c["ttft_ms"]),
            ms(c["local_ms"]), ms(c["download_ms"]), ms(c["bound_ms"]), times(ratio(c["ttft_ms"], c["bound_ms"])),
            times(ratio(c["ttft_ms"], best)), times(c["self_ratio"]), *peer, layers]


def cases_charts(result):
    return [cases_chart(result["cases"], tokens) for tokens in sorted({c["context_tokens"] for c in result["cases"]})]


def cases_chart(cases, tokens):
    out = Chart(f"{tokens} tokens, cloud only, shortest round trip", "Mbit/s", "ms to first token", log_x=True, log_y=True)
    shortest = min(c["rtt_ms"] for c in cases)
    mine = [c for c in cases if c["context_tokens"] == tokens and c["sources"] == 1 and c["rtt_ms"] == shortest]
    for name, key in (("both at once", "ttft_ms"), ("local prefill", "local_ms"), ("download", "download_ms"),
                      ("bound", "bound_ms"), ("llama prefill", "peer_cold_ms"), ("llama restore", "peer_restore_ms")):
        out.line(name, [(c["link_mbit"], c[key]) for c in mine], dashed=key == "bound_ms")
    return out


def timeline_charts(result):
    timeline = result["timeline"]
    if not timeline:
        return []
    layers = timeline["layers"]
    out = Chart(f"{timeline['context_tokens']} tokens, {timeline['link_mbit']:g} Mbit/s a source", "milliseconds", "layer")
    for source in ("compute", "peer", "cloud", "disk"):
        out.points(source, [(layer["ms"], i) for i, layer in enumerate(layers) if layer["source"] == source])
    passed, steps = 0, []
    for i, layer in enumerate(layers):
        passed = max(passed, layer["ms"])
        steps.append((passed, i))
    out.line("user's tokens", steps, dashed=True, marks=False)
    return [out]
