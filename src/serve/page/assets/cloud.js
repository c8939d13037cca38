// The cloud's page: what is registered, computed, kept and fetched.
import {$, bytes, chip, json, make, number, poll, replace, shortId, startTheme} from "./page.js";

const none = (text) => [make("li", "none", text)];

function jobRow(job) {
  const name = job.context_name || shortId(job.context_id);
  const bar = make("progress");
  bar.max = job.n_blocks;
  bar.value = job.blocks;
  bar.setAttribute("aria-label", `${name}: ${job.blocks} of ${job.n_blocks} blocks`);
  return make("li", "", "", make("span", "name", name), make("span", `tag ${job.waiting ? "" : "loading"}`, job.waiting ? "waiting" : "computing"),
    make("span", "what", `${number(job.n_tokens)} tokens · ${job.codec} · ${job.model}`), bar);
}

function edgeRow(edge) {
  const ago = edge.seconds_ago < 5 ? "now" : `${number(edge.seconds_ago)} s ago`;
  return make("li", "", "", make("span", "name mono", edge.name), make("span", `tag ${edge.seconds_ago < 15 ? "held" : ""}`, ago));
}

function modelRow(model) {
  const kind = model.map ? "mapped from a larger model" : model.tuning ? "tuned" : "";
  const row = make("li", "", "", make("span", "name", model.name));
  if (kind) row.append(make("span", "tag", kind));
  row.append(make("span", "what", `${model.n_layers} layers · ${number(model.n_ctx)} tokens`));
  row.title = model.id;
  return row;
}

function contextRow(context) {
  const row = make("li", "", "", make("span", "name", context.name || shortId(context.id)),
    make("span", "mono", shortId(context.id)), make("span", "what", `${bytes(context.bytes)} of text`));
  row.title = context.id;
  return row;
}

function packRow(pack) {
  return make("tr", "", "", make("td", "", pack.context_name || shortId(pack.context_id)), make("td", "", pack.model),
    make("td", "mono", pack.codec), make("td", "", pack.provenance), make("td", "number", number(pack.n_tokens)),
    make("td", "number", bytes(pack.bytes)));
}

async function refresh() {
  try {
    const status = await json("/v1/status");
    const busy = status.jobs.length;
    chip($("load"), busy ? `${busy} ${busy === 1 ? "pack" : "packs"} being computed` : "idle", busy ? "live" : "");
    replace($("jobs"), busy ? status.jobs.map(jobRow) : none("Nothing to compute."));
    replace($("edges"), status.edges.length ? status.edges.map(edgeRow) : none("No edge has asked yet."));
    replace($("models"), status.models.map(modelRow));
    replace($("contexts"), status.contexts.length ? status.contexts.map(contextRow)
      : none("Nothing is registered. “celslm context put FILE” registers a text."));
    $("n-contexts").textContent = `${number(status.n_contexts)} registered`;
    replace($("packs"), status.packs.map(packRow));
    $("pack-bytes").textContent = `${bytes(status.pack_bytes)} of ${bytes(status.pack_budget_bytes)} on disk`;
  } catch (error) {
    chip($("load"), "not reachable", "bad");
  }
}

startTheme();
poll(refresh, () => 1000);
