// The page: the form, work that can be stopped, the history, the reports and the keyboard.

import { call, events, Failure, hasKey, json, onKeyNeeded, requestKey, storeKey } from "./api.js";
import { addCandidate, at, board, clear, copyOf, draw, render as renderBoard, showDistribution } from "./board.js";
import { code } from "./code.js";
import { compare, render as renderComparison } from "./compare.js";
import { announce, complain, moment, number, other, preferred, setLanguage, t } from "./words.js";

const HISTORY = "outspoken-history";
const MOST_ENTRIES = 50;
const MOST_CHARACTERS = 1_500_000;
const FIELDS = ["prompt", "system", "model", "method", "k", "tau", "temperature"];
const NUMBERS = { k: "k", tau: "tau", temperature: "temperature" };
const RUNS = {
  ask: ["go", "stop", "ask-error"],
  draw: ["draw", "draw-stop", "draw-error"],
  compare: ["compare-go", "compare-stop", "compare-error"],
};
const running = {};
let about = { methods: [], defaults: {}, key_needed: false, reports: false };
let reports = [];
let body = null; // the request of the distribution on the page

// What the browser stores. The reader may have forbidden it.

function stored(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function storedHistory() {
  const entries = stored(HISTORY);
  return Array.isArray(entries) ? entries.filter((entry) => entry?.form && entry.distribution?.candidates) : [];
}

function remember(form, distribution) {
  const entries = [{ at: Date.now(), form, distribution }, ...storedHistory()].slice(0, MOST_ENTRIES);
  const wanted = entries.length;
  while (entries.length && JSON.stringify(entries).length > MOST_CHARACTERS) entries.pop();
  while (entries.length && !store(HISTORY, entries)) entries.pop();
  at("history-note").textContent = !entries.length ? t("historyNone") : entries.length < wanted ? t("historyFull") : "";
}

function showHistory() {
  const entries = storedHistory();
  if (!entries.length && !at("history-note").textContent) at("history-note").textContent = t("historyEmpty");
  at("history-clear").hidden = !entries.length;
  fillList("history-list", "t-history", entries, (entry) => [entry.form.prompt, `${moment(entry.at)} · ${entry.form.method} · ${entry.form.model}`], recall);
  at("history").showModal();
}

function recall({ form, distribution }) {
  at("history").close();
  stopAll();
  for (const name of FIELDS) at(name).value = form[name] ?? "";
  at("more").open = Boolean(form.system);
  changed();
  body = bodyOf(form);
  openBoard(form.prompt);
  showDistribution(distribution);
  at("distribution").focus();
}

function fillList(id, template, entries, texts, open) {
  at(id).replaceChildren(...entries.map((entry) => {
    const row = copyOf(template);
    const [what, fine] = texts(entry);
    row.querySelector(".what").textContent = what;
    row.querySelector(".fine").textContent = fine;
    row.querySelector("button").addEventListener("click", () => open(entry));
    return row;
  }));
}

// The form, and its request.

function read() {
  return Object.fromEntries(FIELDS.map((name) => [name, at(name).value.toWellFormed()]));
}

/** The server's description of a method. */
function methodOf(name) {
  return about.methods.find((method) => method.name === name);
}

function bodyOf({ prompt, system, model, method, k, tau, temperature }) {
  return {
    model,
    messages: [...(system.trim() ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }],
    ...(temperature === "" ? {} : { temperature: Number(temperature) }),
    outspoken: { method, ...(k === "" ? {} : { k: Number(k) }), ...(tau === "" || !methodOf(method)?.states_probabilities ? {} : { tau: Number(tau) }) },
  };
}

/** Whether the form can be sent; if not, shows the reason and selects the field. */
function ready(place) {
  const wrong = Object.keys(NUMBERS).find((name) => !at(name).disabled && !at(name).validity.valid);
  const field = !at("prompt").value.trim() ? "prompt" : wrong;
  for (const name of FIELDS) at(name).toggleAttribute("aria-invalid", name === field);
  if (!field) return true;
  complain(place, new Failure(field === "prompt" ? t("needPrompt") : t("badNumber", t(NUMBERS[field]))));
  at(field).focus();
  return false;
}

function changed() {
  const form = read();
  const method = methodOf(form.method);
  at("method-about").textContent = t("methods")[form.method] ?? method?.about ?? "";
  at("tau").disabled = !method?.states_probabilities;
  at("code-key").textContent = t(about.key_needed ? "codeKey" : "codeNoKey");
  const kind = document.querySelector('[role="tab"][aria-selected="true"]').dataset.code;
  const example = bodyOf({ ...form, prompt: form.prompt.trim() ? form.prompt : t("examples")[0] });
  at("snippet-code").textContent = code(kind, example, method?.suffix ?? "", about.key_needed);
}

// Work that can be stopped.

async function run(name, work) {
  if (running[name]) return;
  const [go, stop, place] = RUNS[name].map(at);
  const control = (running[name] = new AbortController());
  complain(place, null);
  go.setAttribute("aria-disabled", "true");
  stop.hidden = false;
  try {
    await work(control.signal);
  } catch (error) {
    complain(place, control.signal.aborted ? control.signal.reason : error);
  } finally {
    delete running[name];
    if (document.activeElement === stop) go.focus();
    go.removeAttribute("aria-disabled");
    stop.hidden = true;
  }
}

function stopAll() {
  const all = Object.values(running);
  for (const control of all) control.abort();
  return all.length > 0;
}

function openBoard(prompt) {
  clear();
  at("empty").hidden = true;
  at("board").hidden = false;
  at("asked").textContent = prompt;
}

function ask() {
  if (running.ask || !ready(at("ask-error"))) return;
  running.draw?.abort();
  run("ask", async (signal) => {
    if (!at("model").value) await loadModels();
    const form = read();
    at("ask-progress").textContent = t("asking");
    try {
      await follow(await call("v1/distributions", { ...bodyOf(form), stream: true }, signal), form);
      remember(form, board.distribution);
    } finally {
      at("ask-progress").textContent = "";
    }
  });
}

/** Show the events of a distribution. The page keeps the previous one until the first event. */
async function follow(response, form) {
  let started = false;
  for await (const { event, data } of events(response)) {
    const value = JSON.parse(data);
    if (event === "error") throw new Failure(value.error.message, "stream");
    if (!started) {
      started = true;
      body = bodyOf(form);
      openBoard(form.prompt);
    }
    if (event === "candidate") {
      addCandidate(value);
      at("ask-progress").textContent = t("soFar", board.cards.length);
    } else if (event === "distribution") {
      showDistribution(value);
      announce(t("ready", value.candidates.length, number(value.effective_size, 1), value.candidates[0].text), true);
      return;
    }
  }
  throw new Failure(t("broken"));
}

function drawOne() {
  if (!board.distribution || running.ask) return;
  run("draw", async (signal) => {
    await draw(async () => (await json("v1/chat/completions", body, signal)).choices[0]);
    offerOther(board.draws[0]);
  });
}

/** If the server drew from a newer distribution than the one shown, offer to show that one. */
function offerOther({ distribution }) {
  if (!distribution || distribution === board.distribution.id) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = t("showOther");
  button.addEventListener("click", () => run("draw", async (signal) => {
    const newer = await json(`v1/distributions/${encodeURIComponent(distribution)}`, undefined, signal);
    const { draws } = board;
    openBoard(at("asked").textContent);
    board.draws = draws;
    showDistribution(newer);
  }));
  at("draw-error").classList.add("calm");
  at("draw-error").replaceChildren(t("fromOther"), " ", button);
}

function compareBoth() {
  if (running.compare || !ready(at("compare-error"))) return;
  const each = at("each");
  if (!each.value || !each.validity.valid) {
    complain(at("compare-error"), new Failure(t("badNumber", t("each"))));
    each.focus();
    return;
  }
  run("compare", async (signal) => {
    if (!at("model").value) await loadModels();
    const verbalized = bodyOf(read());
    const { outspoken, ...direct } = verbalized;
    await compare({ direct, verbalized }, Number(each.value), signal);
  });
}

// What the server offers.

async function loadModels() {
  const { data } = await json("v1/models");
  const names = new Set(data.map(({ id }) => id));
  const suffixes = about.methods.map(({ suffix }) => suffix).filter(Boolean);
  const isSuffixed = (id) => suffixes.some((suffix) => id.endsWith(suffix) && names.has(id.slice(0, -suffix.length)));
  const models = [...names].filter((id) => !isSuffixed(id));
  if (!models.length) throw new Failure(t("noModels"));
  at("model").replaceChildren(...models.map((id) => new Option(id)));
  changed();
}

async function loadReports() {
  if (!about.reports) return;
  ({ reports } = await json("reports"));
  at("reports").hidden = !reports.length;
  showReports();
}

function showReports() {
  fillList("report-list", "t-report", reports, (entry) => [entry.title, `${t("kinds")[entry.kind] ?? entry.kind} · ${moment(1000 * entry.modified)}`], openReport);
}

/** Show a report in a frame of another origin, so that nothing in it can reach this page. */
async function openReport({ name, title }) {
  complain(at("reports-error"), null);
  try {
    const text = await (await call(`reports/${encodeURIComponent(name)}`)).text();
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts allow-downloads allow-popups";
    frame.title = title;
    frame.src = "reports-frame";
    frame.addEventListener("load", () => frame.contentWindow.postMessage(text, "*"), { once: true });
    at("report-title").textContent = title;
    at("report-place").replaceChildren(frame);
    at("report").showModal();
  } catch (error) {
    complain(at("reports-error"), error);
  }
}

async function load() {
  complain(at("page-error"), null);
  try {
    about = { ...about, ...(await json("about.json")) };
    const { method = "vs-standard", k = 5, tau = null, temperature = null } = about.defaults;
    at("version").textContent = about.version;
    at("open-key").hidden = !about.key_needed;
    at("method").replaceChildren(...about.methods.map(({ name }) => new Option(name)));
    at("method").value = method;
    at("k").max = about.most_k ?? 1000;
    for (const [name, value] of Object.entries({ k, tau, temperature })) at(name).value = value ?? "";
    changed();
    if (about.key_needed && !hasKey() && !(await requestKey())) throw new Failure(t("keyWrong"));
    await Promise.all([loadModels(), loadReports()]);
  } catch (error) {
    complain(at("page-error"), error);
  }
}

onKeyNeeded((message) => new Promise((done) => {
  complain(at("key-error"), message ? new Failure(message) : null);
  at("key-value").value = "";
  at("key").addEventListener("close", () => {
    const key = at("key-value").value.trim();
    const saved = at("key").returnValue === "save" && key;
    if (saved) storeKey(key);
    at("key-value").value = "";
    done(saved || null);
  }, { once: true });
  at("key").returnValue = "";
  at("key").showModal();
}));

// The language, the keyboard, the buttons.

function changeLanguage(language) {
  setLanguage(language);
  const enter = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵";
  for (const place of document.querySelectorAll(".mod-enter")) place.textContent = enter;
  const keys = { ask: enter, draw: "D", compare: "C", prompt: "/", code: "E", history: "H", esc: "Esc", help: "?" };
  at("keys").replaceChildren(...Object.entries(keys).flatMap(([name, key]) => {
    const [term, what] = [document.createElement("dt"), document.createElement("dd")];
    term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
    what.textContent = t("keys")[name];
    return [term, what];
  }));
  at("examples").replaceChildren(...t("examples").map((text) => {
    const [row, button] = [document.createElement("li"), document.createElement("button")];
    Object.assign(button, { type: "button", textContent: text });
    button.addEventListener("click", () => {
      at("prompt").value = text;
      changed();
      ask();
    });
    row.append(button);
    return row;
  }));
  changed();
  renderBoard();
  renderComparison();
  showReports();
}

const SINGLE = {
  d: drawOne,
  c: compareBoth,
  h: showHistory,
  "/": () => at("prompt").focus(),
  e: () => at("snippet").focus(),
  "?": () => at("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const inField = event.target.closest("textarea, select, input:not([type=checkbox])");
  const bare = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    ask();
  } else if (event.key === "Escape") {
    if (!stopAll() && inField) at("distribution").focus();
  } else if (bare && !inField && !event.repeat && at("single").checked && SINGLE[event.key.toLowerCase()]) {
    event.preventDefault();
    SINGLE[event.key.toLowerCase()]();
  }
});

function choose(tab) {
  for (const one of document.querySelectorAll('[role="tab"]')) {
    one.setAttribute("aria-selected", String(one === tab));
    one.tabIndex = one === tab ? 0 : -1;
  }
  at("snippet").setAttribute("aria-labelledby", tab.id);
  at("copy").textContent = t("copy");
  changed();
}

async function copy() {
  let result = "copied";
  try {
    await navigator.clipboard.writeText(at("snippet-code").textContent);
  } catch {
    getSelection().selectAllChildren(at("snippet-code"));
    result = "selected";
  }
  at("copy").textContent = t(result);
  announce(t(result), true);
}

function download() {
  const file = new Blob([JSON.stringify(board.distribution, null, 2)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: `${board.distribution.id ?? "distribution"}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const CLICKS = {
  stop: () => running.ask?.abort(),
  draw: drawOne,
  "draw-stop": () => running.draw?.abort(),
  "compare-go": compareBoth,
  "compare-stop": () => running.compare?.abort(),
  copy,
  download,
  "open-history": showHistory,
  "open-help": () => at("help").showModal(),
  "open-key": async () => (await requestKey()) && load(),
  "key-save": () => at("key").close("save"),
  "history-clear": () => {
    localStorage.removeItem(HISTORY);
    at("history-note").textContent = "";
    at("history").close();
  },
  language: () => {
    store("outspoken-language", other());
    changeLanguage(other());
  },
};
for (const [id, handler] of Object.entries(CLICKS)) at(id).addEventListener("click", handler);
for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
at("report").addEventListener("close", () => at("report-place").replaceChildren());
at("key-value").addEventListener("keydown", (event) => event.key === "Enter" && at("key").close("save"));
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("ask").addEventListener("input", changed);
const tabs = [...document.querySelectorAll('[role="tab"]')];
for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", ({ key }) => {
    const next = tabs[(index + { ArrowRight: 1, ArrowLeft: -1 }[key] + tabs.length) % tabs.length];
    if (next) {
      choose(next);
      next.focus();
    }
  });
}
at("single").checked = stored("outspoken-single-keys") ?? true;
at("single").addEventListener("change", () => store("outspoken-single-keys", at("single").checked));
choose(tabs[0]);
changeLanguage(preferred(stored("outspoken-language")));
load();
