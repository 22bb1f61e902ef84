// Direct answers of the model beside draws from its distribution, counted as they arrive.

import { call, json } from "./api.js";
import { at, copyOf } from "./board.js";
import { announce, complain, number, percent, t } from "./words.js";

const CALLS_AT_ONCE = 4;
const MILLISECONDS_BETWEEN = 500;
let arms = [];

/** Ask on both sides `each` times, a few calls at once; a call that fails ends its side. */
export async function compare(bodies, each, signal) {
  arms = ["direct", "verbalized"].map((name) => ({ name, each, body: bodies[name], texts: [], measured: null, column: copyOf("t-arm") }));
  at("arms").replaceChildren(...arms.map((arm) => arm.column));
  at("arms").hidden = false;
  render();
  const waiting = Array.from({ length: each }, () => arms).flat();
  const work = async () => {
    for (let arm; (arm = waiting.shift()) && !signal.aborted;) if (!arm.error) await askOnce(arm, signal);
  };
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, work));
  await Promise.all(arms.map((arm) => measure(arm, signal)));
  signal.throwIfAborted();
  const [direct, verbalized] = arms.map((arm) => arm.measured?.distinct ?? 0);
  announce(t("compared", number(direct), number(verbalized), number(each)), true);
}

async function askOnce(arm, signal) {
  try {
    const { choices: [{ message }] } = await json("v1/chat/completions", arm.body, signal);
    arm.texts.push(message.content ?? message.refusal ?? "");
    show(arm);
    measureSoon(arm, signal);
  } catch (error) {
    arm.error = error;
    if (!signal.aborted) complain(arm.column.querySelector(".message"), error);
  }
}

/** Measure the answers so far, one call at a time and at most twice a second. */
function measureSoon(arm, signal) {
  arm.soon ??= setTimeout(() => {
    arm.soon = null;
    if (arm.texts.length < arm.each) measure(arm, signal);
  }, MILLISECONDS_BETWEEN);
}

async function measure(arm, signal) {
  if (!arm.texts.length || signal.aborted) return;
  const count = arm.texts.length;
  try {
    const measured = await (await call("v1/measures", { texts: arm.texts }, signal)).json();
    // A response that a later one has overtaken is out of date.
    if (count >= (arm.measured?.texts ?? 0)) arm.measured = { ...measured, texts: count };
    show(arm);
  } catch (error) {
    if (!signal.aborted) complain(arm.column.querySelector(".message"), error);
  }
}

function show({ name, each, body, texts, measured, column }) {
  const [distinct, diversity] = column.querySelectorAll(".result");
  column.dataset.arm = name;
  column.querySelector("h3").textContent = name === "direct" ? t(name) : `${t(name)} (${body.outspoken.method})`;
  distinct.querySelector(".big").textContent = measured ? number(measured.distinct) : "–";
  distinct.querySelector(".unit").textContent = t("distinctOf", measured?.texts ?? 0);
  const known = Number.isFinite(measured?.semantic_diversity);
  diversity.querySelector(".big").textContent = known ? percent(measured.semantic_diversity) : "–";
  diversity.querySelector(".unit").textContent = t("diversity");
  column.querySelector(".note").textContent = known ? "" : (measured?.note ?? "");
  const counts = new Map();
  for (const text of texts) counts.set(text.trim(), (counts.get(text.trim()) ?? 0) + 1);
  const rows = [...counts].sort(([, a], [, b]) => b - a);
  column.querySelector("ol").replaceChildren(...rows.map(([text, count]) => {
    const row = copyOf("t-given");
    row.querySelector(".text").textContent = text;
    row.querySelector(".count").textContent = count > 1 ? `×${number(count)}` : "";
    row.style.setProperty("--fill", count / each);
    return row;
  }));
}

/** Show the columns again, in the page's language. */
export function render() {
  arms.forEach(show);
}
