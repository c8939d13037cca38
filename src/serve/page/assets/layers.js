// The layer timeline: a bar for each layer, as long as it took until the layer was complete, in the colour of its source.
import {$, make, milliseconds, replace} from "./page.js";

const sources = [["cloud", "from the cloud"], ["peer", "from a neighbour"], ["disk", "from this disk"],
  ["compute", "computed here"], ["memory", "in memory already"]];

function legend(layers) {
  const counts = sources.map(([source, label]) => [source, label, layers.filter((l) => l?.source === source).length]);
  return counts.filter(([, , n]) => n > 0);
}

function bar(layer, number, longest) {
  const fill = make("div", layer ? `fill from-${layer.source}` : "");
  if (layer) fill.style.width = layer.ms === undefined ? "100%" : `${Math.max(0, Math.min(100, 100 * layer.ms / longest))}%`;
  const row = make("div", "row", "", make("span", "", number % 4 === 0 ? String(number) : ""), make("div", "track", "", fill));
  row.title = layer ? describe(layer, number) : `layer ${number}: not here yet`;
  return row;
}

function describe(layer, number) {
  const mixed = layer.blocks ? ` (blocks: ${Object.entries(layer.blocks).map(([s, n]) => `${n} ${s}`).join(", ")})` : "";
  return `layer ${number}: ${layer.source}${mixed}, ${layer.provenance}${layer.ms === undefined ? "" : `, after ${milliseconds(layer.ms)}`}`;
}

function tableRow(layer, number) {
  const cells = [make("td", "", String(number)), make("td", "", layer.source), make("td", "", layer.provenance),
    make("td", "number", layer.ms === undefined ? "before" : milliseconds(layer.ms))];
  return make("tr", "", "", ...cells);
}

// layers: as in x_celslm, null for one that is not here yet; null instead of a list: no context is used. elapsed_ms: since
// the load began, 0 once it has ended.
export function showLayers(layers, elapsed) {
  const here = (layers ?? []).filter(Boolean);
  const longest = Math.max(elapsed, ...here.map((l) => l.ms ?? 0), 1);
  const timed = here.some((l) => l.ms !== undefined);
  const rows = (layers ?? []).map((layer, i) => bar(layer, i, longest));
  if (rows.length && timed) {
    rows.push(make("div", "axis", "", make("span"), make("div", "", "", make("span", "", "0"), make("span", "", milliseconds(longest)))));
  }
  replace($("layers"), rows);
  const counts = legend(layers ?? []);
  replace($("legend"), counts.map(([source, label, n]) => make("li", "", "", make("span", `swatch from-${source}`), `${n} ${label}`)));
  const total = layers?.length ?? 0;
  $("layer-count").textContent = total ? (here.length < total ? `${here.length} of ${total} here` : `all ${total} here`) : "";
  const told = counts.map(([, label, n]) => `${n} ${label}`).join(", ");
  $("layers").setAttribute("aria-label", total ? `${here.length} of ${total} layers are here: ${told}` : "No context used");
  $("layer-details").hidden = total === 0;
  replace($("layer-table"), (layers ?? []).flatMap((layer, i) => (layer ? [tableRow(layer, i)] : [])));
}
