// The model asked directly, beside draws from its distribution: what differs, counted while it comes.

import { call, json } from "./api.js";
import { at, copyOf } from "./board.js";
import { announce, complain, number, percent, t } from "./words.js";

const TOGETHER = 4;
const BETWEEN = 500;
let arms = [];

/** Ask both ways `each` times, a few calls at once; a call that fails ends its own side. */
export async function compare(bodies, each, signal) {
  arms = ["direct", "verbalized"].map((name) => ({ name, each, body: bodies[name], texts: [], measured: null, column: copyOf("t-arm") }));
  at("arms").replaceChildren(...arms.map((arm) => arm.column));
  at("arms").hidden = false;
  retell();
  const waiting = Array.from({ length: each }, () => arms).flat();
  const work = async () => {
    for (let arm; (arm = waiting.shift()) && !signal.aborted;) if (!arm.error) await one(arm, signal);
  };
  await Promise.all(Array.from({ length: TOGETHER }, work));
  await Promise.all(arms.map((arm) => measure(arm, signal)));
  signal.throwIfAborted();
  const [direct, verbalized] = arms.map((arm) => arm.measured?.distinct ?? 0);
  announce(t("compared", number(direct), number(verbalized), number(each)), true);
}

async function one(arm, signal) {
  try {
    const { choices: [{ message }] } = await json("v1/chat/completions", arm.body, signal);
    arm.texts.push(message.content ?? message.refusal ?? "");
    show(arm);
    measureSoon(arm, signal);
  } catch (error) {
    arm.error = error;
    if (!signal.aborted) complain(arm.column.querySelector(".said"), error);
  }
}

/** Count what has come, one call at a time and not more often than twice a second. */
function measureSoon(arm, signal) {
  arm.soon ??= setTimeout(() => {
    arm.soon = null;
    if (arm.texts.length < arm.each) measure(arm, signal);
  }, BETWEEN);
}

async function measure(arm, signal) {
  if (!arm.texts.length || signal.aborted) return;
  const count = arm.texts.length;
  try {
    const measured = await (await call("v1/measures", { texts: arm.texts }, signal)).json();
    // An answer that was overtaken by a later one says nothing new.
    if (count >= (arm.measured?.texts ?? 0)) arm.measured = { ...measured, texts: count };
    show(arm);
  } catch (error) {
    if (!signal.aborted) complain(arm.column.querySelector(".said"), error);
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

/** The columns once more, in the page's language. */
export function retell() {
  arms.forEach(show);
}
