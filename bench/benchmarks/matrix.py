"""matrix: products with quantized weights on one thread, of each type, beside what the machine can do.

A matrix beyond the caches is multiplied by one token (memory is the limit), by 16 users' tokens, and by many, as in a
prefill (the integer dot products are). The limits are measured by the same program: reading memory, and the same
instruction on registers only. Of several runs the fastest counts.

--json keys:
  machine, n_in, n_out, tokens                 the matrix, and how many tokens are "many"
  peak_products_per_s, memory_bytes_per_s      the limits, of one thread
  types[].type, types[].bytes_per_weight
  types[].one, types[].users, types[].many     products a second
  types[].bandwidth_share                      of the memory's bytes a second, with one token
  types[].peak_share_16, types[].peak_share    of the peak, with 16 tokens and with many
"""
from ..benchmark import Benchmark, Picture
from ..chart import Chart
from ..lab.programs import built, json_lines_of
from ..lab.progress import Progress, table

USERS = 16
DRAWN = ("Q4_0", "Q4_K", "Q5_0", "Q6_K", "Q8_0")  # what people run


class Matrix(Benchmark):
    targets = ("celslm_bench_matrix",)
    runs = 5
    smoke = (("--n-in", "256", "--n-out", "64", "--tokens", "32", "--runs", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--n-in", type=int, default=1536, help="columns (default: 1536)")
        parser.add_argument("--n-out", type=int, default=65536, help="rows (default: 65536: beyond the caches)")
        parser.add_argument("--tokens", type=int, default=512, help="(default: 512)")

    def measure(self, options):
        with Progress("each type in turn"):
            limits, *types = json_lines_of(built("celslm_bench_matrix", options.preset, "bench"), "--n-in", options.n_in,
                                           "--n-out", options.n_out, "--tokens", options.tokens, "--runs", options.runs)
        peak, memory = limits["peak_products_per_s"], limits["memory_bytes_per_s"]
        for of in types:
            of["bandwidth_share"] = round(of["one"] * of["bytes_per_weight"] / memory, 3)
            of["peak_share_16"], of["peak_share"] = round(of["users"] / peak, 3), round(of["many"] / peak, 3)
        return {"n_in": options.n_in, "n_out": options.n_out, "tokens": options.tokens, **limits, "types": types}

    def show(self, result):
        print(f"{result['machine']}; one thread; {result['n_in']} x {result['n_out']}: at most "
              f"{result['peak_products_per_s'] / 1e9:.0f} G products/s and {result['memory_bytes_per_s'] / 1e9:.1f} GB/s")
        rows = [[of["type"], f"{of['bytes_per_weight'] * 8:.2f}",
                 *(f"{of[key] / 1e9:.1f}" for key in ("one", "users", "many")),
                 *(f"{100 * of[key]:.0f} %" for key in ("bandwidth_share", "peak_share_16", "peak_share"))]
                for of in result["types"]]
        print(table(rows, ["", "bits", "1 token, G/s", "16", str(result["tokens"]), "of memory", "of peak, 16",
                           f"of peak, {result['tokens']}"]))

    def pictures(self):
        return [Picture(("--roofline",), "the roofline: 1, 16 and many tokens of the commonest types", roofline)]


def roofline(result):
    """A token more is a product more for each weight that is read."""
    chart = Chart("Products with quantized weights, one thread", "products per byte of weights", "G products/s", log_x=True,
                  log_y=True)
    peak, memory = result["peak_products_per_s"] / 1e9, result["memory_bytes_per_s"] / 1e9
    left, right = 0.5, 2.0 * result["tokens"] / min(of["bytes_per_weight"] for of in result["types"])
    chart.line("possible", [(left, left * memory), (peak / memory, peak), (right, peak)], marks=False, dashed=True)
    for of in result["types"]:
        if of["type"] in DRAWN:
            chart.line(of["type"], [(tokens / of["bytes_per_weight"], of[key] / 1e9)
                                    for key, tokens in (("one", 1), ("users", USERS), ("many", result["tokens"]))])
    return [chart]
