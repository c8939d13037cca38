// What both pages need: elements made of text only, requests with the token, figures for people, light and dark.

export const $ = (id) => document.getElementById(id);

// An element with a class, text and children. Text is never parsed as HTML.
export function make(tag, name = "", text = "", ...children) {
  const out = document.createElement(tag);
  if (name) out.className = name;
  if (text !== "") out.textContent = text;
  out.append(...children);
  return out;
}

export function replace(parent, children) {
  parent.replaceChildren(...children);
}

const figure = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
export const number = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : figure.format(value));
export const milliseconds = (ms) => (ms >= 1000 ? `${number(ms / 1000)} s` : `${number(ms)} ms`);

export function bytes(n) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (n < 1000 || unit === "GB") return `${number(n)} ${unit}`;
    n /= 1000;
  }
  return "";
}

export const shortId = (id) => id.slice(0, 12) + "…";

// The bearer token lasts as long as this tab. Without storage (a private window may have none) as long as the page.
let token = "";
try {
  token = sessionStorage.getItem("celslm-token") ?? "";
} catch {
  token = "";
}

let asking = null;
function askForToken() {
  asking ??= new Promise((resolve) => {
    const input = make("input");
    input.type = "password";
    input.id = "token";
    input.autocomplete = "current-password";
    const label = make("label", "", "This server asks for its access token (the content of its --token-file).");
    label.htmlFor = "token";
    const form = make("form", "", "", label, input, make("button", "", "Use this token"));
    form.method = "dialog";
    const dialog = make("dialog", "", "", form);
    dialog.setAttribute("aria-label", "Access token");
    dialog.addEventListener("close", () => {
      token = input.value.trim();
      try {
        sessionStorage.setItem("celslm-token", token);
      } catch { /* kept in memory only */ }
      dialog.remove();
      asking = null;
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

// fetch with the token; asks for one where the server wants another.
export async function request(path, options = {}) {
  for (;;) {
    const used = token;
    const headers = {...options.headers};
    if (used) headers.Authorization = `Bearer ${used}`;
    const response = await fetch(path, {...options, headers});
    if (response.status !== 401) return response;
    if (used === token) await askForToken();
  }
}

export async function json(path) {
  const response = await request(path);
  if (!response.ok) throw new Error(await problem(response));
  return response.json();
}

// The message of an error response.
export async function problem(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

const themes = ["auto", "light", "dark"];
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
try {
  theme = localStorage.getItem("celslm-theme") ?? "auto";
} catch { /* auto */ }

function showTheme() {
  const dark = theme === "dark" || (theme === "auto" && darkSystem.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = `Theme: ${theme}`;
}

export function startTheme() {
  darkSystem.addEventListener("change", showTheme);
  $("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try {
      localStorage.setItem("celslm-theme", theme);
    } catch { /* for this page only */ }
    showTheme();
  });
  showTheme();
}

export function chip(element, text, state = "") {
  if (element.textContent !== text) element.textContent = text;
  element.className = `chip ${state}`;
}

// Calls `work` now and again, not while the tab is hidden; wait(): milliseconds until the next call.
export async function poll(work, wait) {
  for (;;) {
    if (!document.hidden) await work();
    await new Promise((resolve) => setTimeout(resolve, wait()));
  }
}
