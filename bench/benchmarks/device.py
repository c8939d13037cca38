"""device: prefill and decode on a GPU against llama-bench on the same GPU, and what copying the KV off it costs.

For a machine with a GPU that ggml sees ('celslm doctor' names it): random weights in the shapes of real models, prefill of
contexts as a cloud does it, and decoding token by token. llama-bench computes the same on the same device, in turn with
ours. The time of a prefill ends with the last byte of KV in host memory; "longer" compares it with the same prefill whose
KV stays on the device.

--json keys (SHAPE: each of --shapes; N: each of --prefill):
  machine, device, quantization, runs
  shapes.*.prefill_*.ours_tps, shapes.*.prefill_*.peer_tps     tokens per second, medians; ours with KV on the host
  shapes.*.prefill_*.ours_spread, shapes.*.prefill_*.peer_spread   [least, most]
  shapes.*.prefill_*.ratio, shapes.*.prefill_*.self_ratio      ours / peer, ours / ours again
  shapes.*.prefill_*.kv_on_host_s                              from the tokens to the last byte of KV, median
  shapes.*.prefill_*.longer                                    that time over the time without copying
  shapes.*.decode.ours_tps, shapes.*.decode.peer_tps           tokens per second, medians
  shapes.*.decode.ours_spread, shapes.*.decode.peer_spread     [least, most]
  shapes.*.decode.ratio, shapes.*.decode.self_ratio            ours / peer, ours / ours again
  agreement.model, agreement.tokens   of text that the CPU read behind a context, with --agree
  agreement.differ                    most likely next tokens that are others behind KV from the device than behind the CPU's
  agreement.widest                    of these, the largest distance of the two tokens behind the CPU's KV, nats
"""
import json

from ..benchmark import Benchmark, names, numbers, times
from ..lab import models
from ..lab.programs import ROOT, built, output_of
from ..lab.progress import Progress, table
from ..measure import in_turn, median, ratio, speeds


class Device(Benchmark):
    targets = ("celslm_bench_device",)
    runs = 5
    against_self = True
    smoke = (("--device", "CPU", "--shapes", "tiny", "--prefill", "32", "--decode", "4", "--runs", "1",
              "--agree", str(models.demo_model("small")), "--agree-tokens", "32"),)

    def add_arguments(self, parser):
        parser.add_argument("--device", default="Vulkan0", metavar="NAME",
                            help="from 'celslm doctor' (CPU: ggml's CPU backend as a device; default: Vulkan0)")
        parser.add_argument("--shapes", type=names, default=["qwen2.5-0.5b", "qwen2.5-1.5b"], metavar="SHAPE,..",
                            help="shapes that tools/random_gguf.py knows (default: qwen2.5-0.5b,qwen2.5-1.5b)")
        parser.add_argument("--quantization", default="Q4_0", help="a type that llama-quantize knows (default: Q4_0)")
        parser.add_argument("--prefill", type=numbers, default=[512, 8192], metavar="TOKENS,..", help="(default: 512,8192)")
        parser.add_argument("--agree", type=models.gguf, metavar="GGUF",
                            help="also compare next tokens of this model behind KV from device and CPU, e.g. smollm2-135m")
        parser.add_argument("--agree-tokens", type=int, default=1024, metavar="N",
                            help="of this project's documents, half of them as context (default: 1024)")
        parser.add_argument("--decode", type=int, default=64, metavar="TOKENS", help="(default: 64)")

    def measure(self, options):
        result = {"device": options.device, "quantization": options.quantization, "runs": options.runs,
                  "shapes": {shape: measure_shape(shape, options) for shape in options.shapes}}
        return result | ({"agreement": agreement(options)} if options.agree else {})

    def show(self, result):
        print(f"{result['machine']}; {result['device']}; random weights, {result['quantization']}; tokens per second, "
              f"medians of {result['runs']}")
        rows = [[shape, what, of["ours_tps"], of["peer_tps"], times(of["ratio"]),
                 f"{of['kv_on_host_s']:.3f} s" if "kv_on_host_s" in of else "", times(of.get("longer"), 3)]
                for shape, measured in result["shapes"].items() for what, of in measured.items()]
        print(table(rows, ["shape", "", "ours", "llama-bench", "ratio", "KV on host", "longer by copying"]))
        if "agreement" in result:
            of = result["agreement"]
            print(f"{of['model']}: {of['differ']} of {of['tokens']} next tokens differ; widest of these "
                  f"{of['widest']:.4f} nats")


def measure_shape(shape, options):
    model = models.random_model(shape, options.quantization)
    subjects = {"ours": lambda: ours(model, options), "peer": lambda: peer(model, options)}
    if options.against_self:
        subjects["self"] = subjects["ours"]
    with Progress(f"{shape}: {options.runs} runs each, in turn") as progress:
        runs = in_turn(subjects, options.runs, progress=progress)
    result = {}
    for n in options.prefill:
        with_kv = [run[f"prefill_{n}_s"] for run in runs["ours"]]
        alone = [run[f"prefill_{n}_alone_s"] for run in runs["ours"]]
        rates = {name: [run[n] if name == "peer" else n / run[f"prefill_{n}_s"] for run in some]
                 for name, some in runs.items()}
        result[f"prefill_{n}"] = speeds(rates) | {
            "kv_on_host_s": median(with_kv), "longer": ratio(median(with_kv), median(alone))}
    result["decode"] = speeds({name: [run["decode_tps"] for run in some] for name, some in runs.items()})
    return result


def ours(model, options):
    prefill = [argument for n in options.prefill for argument in ("--prefill", n)]
    out = output_of(built("celslm_bench_device", options.preset, "bench"), "--model", model, "--device", options.device,
                    "--decode", options.decode, *prefill)
    return json.loads(out.splitlines()[-1])


def agreement(options):
    out = output_of(built("celslm_bench_device", options.preset, "bench"), "--model", options.agree,
                    "--device", options.device, "--decode", 1, "--agree", options.agree_tokens,
                    "--text", ROOT / "docs" / "architecture.md")
    measured = json.loads(out.splitlines()[-1])
    return {"model": options.agree.name} | {key: measured[f"agree_{key}"] for key in ("tokens", "differ", "widest")}


def peer(model, options):
    """{tokens: tokens per second of prefill}, and decode_tps. Flash attention, as ours has it."""
    where = ("-ngl", 0) if options.device == "CPU" else ("-ngl", 99, "-dev", options.device)
    tests = json.loads(output_of("llama-bench", "-m", model, *where, "-fa", 1, "-p", ",".join(map(str, options.prefill)),
                                 "-n", options.decode, "-r", 1, "-o", "json"))
    speeds_of_prompts = {test["n_prompt"]: test["avg_ts"] for test in tests if test["n_prompt"]}
    return speeds_of_prompts | {"decode_tps": next(test["avg_ts"] for test in tests if not test["n_prompt"])}
