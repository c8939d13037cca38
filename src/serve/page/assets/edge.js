// The edge's page: chat, and where the answer's KV came from.
import {$, bytes, chip, json, make, milliseconds, number, poll, problem, replace, request, shortId, startTheme} from "./page.js";
import {showLayers} from "./layers.js";

const turns = []; // of the conversation, as the API takes them
let answering = null; // {abort, handle, started, tokens, firstToken}
let names = new Map(); // of contexts, by handle

function nameOf(handle) {
  return names.get(handle) || shortId(handle);
}

// ---- status

function contextRow(context, held) {
  const loading = held && held.ready < held.n_layers;
  const state = loading ? "loading" : held ? "held" : "registered";
  const facts = [];
  if (held) facts.push(`${number(held.tokens)} tokens`, bytes(held.memory_bytes));
  else if (context.bytes) facts.push(`${bytes(context.bytes)} of text`);
  const row = make("li", "", "", make("span", "name", context.name || shortId(context.id)),
    make("span", `tag ${state}`, loading ? `loading ${held.ready}/${held.n_layers}` : state),
    make("span", "what", facts.join(" · ")));
  row.title = context.id;
  return row;
}

function showContexts(status) {
  const held = new Map(status.held.map((h) => [h.id, h]));
  names = new Map(status.registered.map((c) => [c.id, c.name]));
  const listed = [...status.registered];
  for (const h of status.held) if (!names.has(h.id)) listed.push({id: h.id, name: ""});
  listed.sort((a, b) => held.has(b.id) - held.has(a.id));
  replace($("contexts"), listed.length ? listed.slice(0, 100).map((c) => contextRow(c, held.get(c.id)))
    : [make("li", "none", "Nothing is registered. “celslm context put FILE” registers a text at the cloud.")]);
  $("memory").textContent = `${bytes(status.memory_bytes)} of ${bytes(status.budget_bytes)} in memory`;
  const cloud = status.cloud_url ? `Cloud: ${status.cloud_url}` : "No cloud: contexts are computed here.";
  $("cloud").textContent = status.cloud_trouble ? `${cloud} — ${status.cloud_trouble}` : cloud;
  $("cloud").classList.toggle("warn", Boolean(status.cloud_trouble));
  const options = [["", "none"], ...status.registered.map((c) => [c.id, c.name || shortId(c.id)])];
  const select = $("context");
  const same = options.length === select.length && options.every(([id, name], i) =>
    select.options[i].value === id && select.options[i].textContent === name);
  if (same) return;
  const chosen = select.value;
  replace(select, options.map(([id, name]) => {
    const option = make("option", "", name);
    option.value = id;
    return option;
  }));
  select.value = options.some(([id]) => id === chosen) ? chosen : "";
}

async function refresh() {
  try {
    const status = await json("/v1/status");
    $("model").textContent = status.model.name;
    const {running, queued} = status.requests;
    chip($("load"), queued ? `${running} running, ${queued} waiting` : running ? `${running} running` : "idle", running ? "live" : "");
    showContexts(status);
    if (answering && !answering.done) showRate();
    const held = answering && answering.handle && status.held.find((h) => h.id === answering.handle);
    if (held && answering && !answering.done) showLive(held);
  } catch (error) {
    chip($("load"), "not reachable", "bad");
  }
}

// ---- the answer's panel

function tile(name, value, unit = "") {
  const dd = make("dd", "", value);
  if (unit) dd.append(" ", make("small", "", unit));
  return make("div", "", "", make("dt", "", name), dd);
}

function showUsed(handle, tokens) {
  $("used").textContent = handle ? `Context “${nameOf(handle)}”${tokens ? `, ${number(tokens)} tokens` : ""}` : "Without a context";
}

function showCodec(codec, reason) {
  $("codec").hidden = !codec;
  $("codec").textContent = codec ? `Codec ${codec}${reason ? `: ${reason}` : ""}` : "";
}

function showNote(note) {
  $("note").hidden = !note;
  $("note").textContent = note || "";
}

function showLive(held) {
  const layers = held.layers.map((layer) => layer && {...layer, source: answering.resident ? "memory" : layer.source});
  showUsed(held.id, held.tokens);
  showCodec(held.codec, held.codec_reason);
  showLayers(layers, answering.resident ? 0 : performance.now() - answering.started);
}

function showRate() {
  const a = answering;
  const elapsed = performance.now() - a.started;
  const tiles = [tile(a.firstToken ? "First token" : "Waiting", ...split(milliseconds(a.firstToken || elapsed)))];
  if (a.tokens > 1) tiles.push(tile("Speed", number((a.tokens - 1) * 1000 / (performance.now() - a.started - a.firstToken)), "tokens/s"));
  if (a.tokens) tiles.push(tile("Answer", number(a.tokens), "tokens"));
  replace($("tiles"), tiles);
}

const split = (text) => text.split(" ");

function showPhases(ms) {
  const decode = ms.decode;
  const parts = [["queue", "queued", ms.queue], ["context", "waited for context", ms.context],
    ["prefill", "read the question", ms.prefill], ["decode", "wrote the answer", decode]];
  const strip = make("div", "strip");
  for (const [name, , value] of parts) {
    if (value <= 0) continue;
    const part = make("div", name);
    part.style.flex = `${value} 0 2px`;
    strip.append(part);
  }
  strip.setAttribute("aria-hidden", "true");
  const list = make("ul");
  for (const [name, label, value] of parts) list.append(make("li", "", "", make("span", `swatch ${name}`), `${label} ${milliseconds(value)}`));
  replace($("phases"), [strip, list]);
  $("phases").hidden = false;
}

function showResult(x, usage) {
  const ms = x.ms;
  showUsed(x.context, x.context_tokens);
  const tokens = usage?.completion_tokens ?? 0;
  const tiles = [tile("First token", ...split(milliseconds(ms.first_token)))];
  if (tokens > 1 && ms.decode > 0) tiles.push(tile("Speed", number((tokens - 1) * 1000 / ms.decode), "tokens/s"));
  if (usage) tiles.push(tile("Answer", number(tokens), "tokens"), tile("Prompt", number(usage.prompt_tokens), "tokens"));
  if (x.context) tiles.push(tile("Fetched", ...split(bytes(x.bytes))));
  if (x.load) tiles.push(tile("Context loaded", ...split(milliseconds(x.load.ms))));
  replace($("tiles"), tiles);
  showPhases(ms);
  showCodec(x.codec, x.codec_reason);
  showNote(x.note);
  showLayers(x.layers ?? [], 0);
}

// ---- chat

function addTurn(role, text) {
  $("empty")?.remove();
  const said = make("span", "said", text);
  const turn = make("div", `turn ${role}`, "", make("span", role === "user" ? "hidden" : "who", role === "user" ? "You asked" : "Answer"), said);
  $("log").append(turn);
  $("log").scrollTop = $("log").scrollHeight;
  return turn;
}

function append(turn, delta) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  if (delta.reasoning_content) {
    let thinking = turn.querySelector(".thinking");
    if (!thinking) turn.querySelector(".said").before(thinking = make("span", "thinking"));
    thinking.append(delta.reasoning_content);
  }
  if (delta.content) turn.querySelector(".said").append(delta.content);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// The data of server-sent events, one after the other.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const text = line.replace(/\r$/, "");
      if (text.startsWith("data:")) yield text.slice(5).trim();
    }
  }
}

async function generate(turn, handle) {
  const body = {messages: turns, stream: true, stream_options: {include_usage: true}};
  if (handle) body.x_celslm = {context: handle};
  const response = await request("/v1/chat/completions", {method: "POST", body: JSON.stringify(body), signal: answering.abort.signal,
    headers: {"Content-Type": "application/json"}});
  if (!response.ok) throw new Error(await problem(response));
  let extension = null;
  let usage = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") break;
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    usage = event.usage ?? usage;
    extension = event.x_celslm ?? extension;
    const delta = event.choices?.[0]?.delta;
    if (!delta?.content && !delta?.reasoning_content) continue;
    answering.firstToken ||= performance.now() - answering.started;
    answering.tokens += 1;
    append(turn, delta);
    showRate();
  }
  return {extension, usage};
}

function setBusy(busy) {
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("context").disabled = busy;
  $("new").disabled = busy;
}

async function ask(question) {
  const handle = $("context").value;
  turns.push({role: "user", content: question});
  addTurn("user", question);
  const turn = addTurn("assistant", "");
  turn.classList.add("busy");
  turn.setAttribute("aria-busy", "true");
  const known = await json("/v1/status").then((s) => s.held.find((h) => h.id === handle), () => null);
  answering = {abort: new AbortController(), handle, started: performance.now(), tokens: 0, firstToken: 0, done: false,
    resident: known != null && known.ready === known.n_layers};
  setBusy(true);
  showUsed(handle);
  showCodec("");
  showNote("");
  $("phases").hidden = true;
  showLayers(handle ? [] : null, 0);
  showRate();
  try {
    const {extension, usage} = await generate(turn, handle);
    answering.done = true;
    turns.push({role: "assistant", content: turn.querySelector(".said").textContent});
    if (extension) showResult(extension, usage);
    $("announce").textContent = `Answer: ${turn.querySelector(".said").textContent}`;
  } catch (error) {
    turns.pop();
    const stopped = error.name === "AbortError";
    turn.classList.add("failed");
    turn.append(make("span", "who", stopped ? "Stopped" : `No answer: ${error.message}`));
    $("announce").textContent = stopped ? "Stopped" : `No answer: ${error.message}`;
  }
  answering = null;
  turn.classList.remove("busy");
  turn.removeAttribute("aria-busy");
  setBusy(false);
  $("question").focus();
  refresh();
}

function submit(event) {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || answering) return;
  $("question").value = "";
  ask(question);
}

startTheme();
$("ask").addEventListener("submit", submit);
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});
$("stop").addEventListener("click", () => answering?.abort.abort());
$("new").addEventListener("click", () => {
  turns.length = 0;
  replace($("log"), []);
  $("question").focus();
});
poll(refresh, () => (answering ? 150 : 2000));
