"""ttft: time to first token with the cloud's KV, against llama-server prefilling on the same machine.

Random weights in the shape of Qwen2.5-0.5B (Q4_0): speed only; or --model and a text. For each context length and link rate:
a fresh edge that fetches the complete pack (ready at the cloud; `./dev bench load` measures fetching and computing at once),
the same edge once it holds the context, the same edge program prefilling locally, and llama-server prefilling, in turn,
`--runs` times; medians. The cloud computes nothing meanwhile: it stands for another machine.

--json keys (milliseconds from a request to its first token, as the client sees it; null: the request failed):
  machine, model, runs
  cases[].context_tokens, cases[].link_mbit, cases[].codec
  cases[].bytes                                                       that came over the link
  cases[].sources                                                     where the layers came from
  cases[].ours_ms, cases[].held_ms, cases[].local_ms, cases[].peer_ms                          medians
  cases[].ours_spread, cases[].held_spread, cases[].local_spread, cases[].peer_spread          [least, most]
  cases[].ratio                                                       peer_ms / ours_ms
  cases[].self_ratio                                                  ours / ours again, in the same rounds: the noise floor
"""
import pathlib
import re
import sys

from ..benchmark import Benchmark, ms, names, numbers, random_model, random_model_name, times
from ..lab import api, models, network
from ..lab.lab import Lab
from ..lab.programs import ROOT, Programs
from ..lab.progress import Progress, table
from ..measure import in_turn, median, ratio, self_ratio, spread

TEXT = ROOT / "models" / "text" / "manual.txt"
TOKENS_PER_WORD = 1.35


class Ttft(Benchmark):
    targets = ("celslm", "celslm_relay")
    runs = 3
    against_self = False
    on_random_model = True
    smoke = (("--shape", "tiny", "--threads", "1", "--tokens", "64", "--links", "100", "--runs", "1", "--self"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="measure this model instead, on --text: a file, or a name of ./dev models")
        parser.add_argument("--text", type=pathlib.Path, default=TEXT, metavar="FILE",
                            help="what contexts are cut from with --model, about 1.35 tokens a word (default: "
                                 "models/text/manual.txt)")
        parser.add_argument("--tokens", type=numbers, default=[512, 2048, 8192],
                            help="lengths of contexts (default: 512,2048,8192)")
        parser.add_argument("--links", type=numbers, default=[10, 50, 100, 1000], help="Mbit/s (default: 10,50,100,1000)")
        parser.add_argument("--codecs", type=names, default=["f16", "q8"], help="(default: f16,q8)")

    def measure(self, options):
        cases = []
        with Programs() as programs:
            model = options.model or random_model(options)
            for n_tokens in options.tokens:
                cases += measure_length(programs, model, n_tokens, options)
        return {"model": options.model.name if options.model else random_model_name(options), "runs": options.runs,
                "cases": cases}

    def show(self, result):
        rows = [[c["context_tokens"], f"{c['link_mbit']:g}", c["codec"], c["bytes"], ms(c["ours_ms"]), ms(c["held_ms"]),
                 ms(c["local_ms"]), ms(c["peer_ms"]), times(c["ratio"]), times(c["self_ratio"])] for c in result["cases"]]
        print(f"Time to first token, milliseconds, medians of {result['runs']}; {result['model']}; {result['machine']}\n")
        print(table(rows, ["context", "Mbit/s", "codec", "bytes", "ours", "ours, held", "ours, local prefill",
                           "llama-server", "llama-server / ours", "ours / ours"]))


def measure_length(programs, model, n_tokens, options):
    """All cases of one context length. Prefill does not know the link: its runs are pooled over the links."""
    cases, local, peer = [], [], []
    for number, mbit in enumerate(options.links):
        with network.open_link(programs, mbit) as link:
            lab = Lab(programs, model, preset=options.preset, threads=options.threads, link=link)
            runs = measure_link(lab, n_tokens, mbit, options, prefills=options.runs if number == 0 else 1)
        local += [streamed.ms for streamed in runs["local"]]
        peer += [streamed.ms for streamed in runs["peer"]]
        for codec in options.codecs:
            cases.append({"link_mbit": mbit, "codec": codec, **figures_of(runs["ours", codec], runs.get(("self", codec)))})
    for case in cases:
        case.update(local_ms=median(local), local_spread=spread(local), peer_ms=median(peer), peer_spread=spread(peer),
                    ratio=ratio(median(peer), case["ours_ms"]))
    return cases


def measure_link(lab, n_tokens, mbit, options, prefills):
    """{(name, codec): answers}, and of "local" and "peer"."""
    context = lab.context(f"context-{n_tokens}", text_of(n_tokens, options))
    with Progress(f"{n_tokens} tokens, {mbit:g} Mbit/s: packs at the cloud"):
        cloud = lab.cloud()
        lab.put(cloud, context, codecs=options.codecs)
    url = lab.link.cloud_url(cloud.url)
    subjects = {}
    for codec in options.codecs:
        subjects["ours", codec] = lambda c=codec: fetched(lab, context, url, c)
        if options.against_self:
            subjects["self", codec] = subjects["ours", codec]
    subjects["local"] = lambda: prefilled(lab, context)
    subjects["peer"] = lambda: prefilled_by_llama(lab, context, n_tokens)
    with Progress(f"{n_tokens} tokens, {mbit:g} Mbit/s: ours, local, llama-server in turn") as progress:
        runs = in_turn(subjects, options.runs, at_most={"local": prefills, "peer": prefills}, progress=progress)
    cloud.stop()
    return runs


def text_of(n_tokens, options):
    """About so long."""
    if not options.model:
        return models.random_text(n_tokens)
    words = re.findall(r"\S+\s*", options.text.read_text(encoding="utf-8"))
    wanted = round(n_tokens / TOKENS_PER_WORD)
    if len(words) < wanted:
        sys.exit(f"ttft: {options.text} has {len(words)} words; {n_tokens} tokens need about {wanted}: name a longer --text")
    return "".join(words[:wanted])


def fetched(lab, context, cloud_url, codec):
    """Two requests at a fresh edge (the others: one): what the first one takes, and with the context in memory."""
    with lab.passing_edge(f"edge-{codec}", "--cloud", cloud_url, "--codec", codec, "--prefer", "energy",
                          knows=[context]) as edge:
        first = api.first_token_or_failure(edge.url, context.text)
        return first, api.first_token_or_failure(edge.url, context.text, question="And then?")


def prefilled(lab, context):
    with lab.passing_edge("local", "--context", context.path) as edge:
        return api.first_token_or_failure(edge.url, context.text)


def prefilled_by_llama(lab, context, n_tokens):
    """All of llama-server's defaults for a single user."""
    with lab.llama_server(n_tokens + 512, "--no-warmup") as server:
        api.first_token(server.url, "warm up")
        return api.first_token_or_failure(server.url, context.text)


def figures_of(answers, again):
    ours, held = [first.ms for first, _ in answers], [second.ms for _, second in answers]
    extension = next((first.x_celslm for first, _ in answers if first.x_celslm), {})
    return {"context_tokens": extension.get("context_tokens"), "bytes": extension.get("bytes"),
            "sources": sorted({layer["source"] for layer in extension.get("layers", [])}),
            "ours_ms": median(ours), "ours_spread": spread(ours), "held_ms": median(held), "held_spread": spread(held),
            "self_ratio": self_ratio({"ours": ours, "self": [first.ms for first, _ in again]}) if again else None}
