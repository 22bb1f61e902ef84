// The distribution on the page: the strip of shares, a card for each answer, the figures, and the draws.

import { announce, number, percent, t } from "./words.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const SCALES = [0.02, 0.05, 0.1, 0.2, 0.5, 1];
const SLOWING = [90, 120, 160, 210, 280];

export const at = (id) => document.getElementById(id);
export const copyOf = (id) => at(id).content.firstElementChild.cloneNode(true);
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** The JSON of the distribution that is shown, its cards in their order, and the draws, latest first. */
export const board = { distribution: null, cards: [], draws: [] };

export function clear() {
  Object.assign(board, { distribution: null, cards: [], draws: [] });
  for (const id of ["cards", "figures", "board-notes", "log"]) at(id).replaceChildren();
  showDraws();
  for (const segment of at("strip").querySelectorAll(".segment")) segment.remove();
  for (const id of ["aside", "thoughts", "draws", "scale"]) at(id).hidden = true;
  mark(null);
  at("draw").disabled = at("download").disabled = true;
}

function add(text, stated, share = 0) {
  const element = copyOf("t-card");
  const segment = document.createElement("div");
  segment.className = "segment";
  const card = { text, stated, share, repairs: [], drawn: 0, element, segment };
  element.querySelector(".text").textContent = text;
  at("cards").append(element);
  at("strip").insertBefore(segment, at("strip").lastElementChild);
  board.cards.push(card);
  return card;
}

/** Show a candidate that has arrived, and the shares of all candidates so far. */
export function addCandidate({ text, stated, weights }) {
  add(text, stated);
  board.cards.forEach((card, index) => { card.share = weights[index] ?? 0; });
  show();
  announce(t("soFar", board.cards.length));
}

/** Show the complete distribution: cards in their order, with their shares, and the figures. */
export function showDistribution(distribution) {
  const before = new Map(board.cards.map((card) => [card.element, card.element.getBoundingClientRect().top]));
  const known = [...board.cards];
  board.cards = [];
  for (const { text, probability, stated, repairs = [] } of distribution.candidates) {
    const index = known.findIndex((card) => card.text === text);
    const card = index < 0 ? add(text, stated) : known.splice(index, 1)[0];
    if (index >= 0) board.cards.push(card);
    Object.assign(card, { share: probability, stated, repairs });
    at("cards").append(card.element);
    at("strip").insertBefore(card.segment, at("strip").lastElementChild);
  }
  for (const card of known) {
    card.element.remove();
    card.segment.remove();
  }
  board.distribution = distribution;
  at("draw").disabled = at("download").disabled = false;
  render();
  slide(before);
}

/** Show everything that depends on the language or the shares again. */
export function render() {
  show();
  if (!board.distribution) return;
  figures(board.distribution);
  showDraws();
  list("aside", board.distribution.set_aside ?? [], (entry) => [entry.text, entry.repairs?.at(-1) || t("noReason")]);
  at("aside").querySelector("summary").textContent = t("aside", board.distribution.set_aside?.length ?? 0);
  list("thoughts", board.distribution.reasoning ?? [], (thought) => [thought]);
}

function show() {
  const most = Math.max(...board.cards.map((card) => card.share), 0);
  const scale = SCALES.find((step) => most <= step + 1e-9) ?? 1;
  at("scale").hidden = !board.cards.length;
  at("scale").textContent = t("scale", scale);
  for (const card of board.cards) {
    const { element, segment, share } = card;
    element.querySelector(".share").textContent = percent(share);
    element.querySelector("i").style.setProperty("--fill", Math.min(share / scale, 1));
    segment.style.flexGrow = share;
    const meta = [
      card.elsewhere ? t("elsewhere") : card.stated === null || card.stated === undefined ? t("unstated") : t("stated", card.stated),
      ...card.repairs,
      ...(card.drawn ? [t("timesDrawn", card.drawn)] : []),
    ];
    element.querySelector(".meta").textContent = meta.join(" · ");
    element.classList.toggle("was-drawn", card.drawn > 0);
    element.classList.toggle("elsewhere", Boolean(card.elsewhere));
  }
}

function slide(before) {
  if (still.matches) return;
  for (const { element } of board.cards) {
    const moved = before.get(element) - element.getBoundingClientRect().top;
    if (moved) element.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 450, easing: "ease-out" });
  }
}

function figures(distribution) {
  const { effective_size: size, entropy, mass, requests, usage = {}, candidates, missing, stopped } = distribution;
  const sent = usage.prompt_tokens ?? 0;
  const got = usage.completion_tokens ?? 0;
  const rows = [
    ["effective", number(size, 1), t("effectiveUnit", candidates.length), t("effectiveAbout")],
    ["entropy", number(entropy, 2), t("entropyUnit"), ""],
    ["mass", mass === null || mass === undefined ? t("noMass") : number(mass, 2), "", t("massAbout")],
    ["requests", number(requests ?? 0), "", ""],
    ["tokens", number(sent + got), t("tokensUnit", sent, got), ""],
  ];
  at("figures").replaceChildren(...rows.map(([name, value, unit, about]) => {
    const row = copyOf("t-figure");
    row.dataset.figure = name;
    row.querySelector("dt").textContent = t(name);
    row.querySelector(".big").textContent = value;
    row.querySelector(".unit").textContent = unit;
    row.querySelector(".fine").textContent = about;
    return row;
  }));
  const { refused = 0, cut_off: cutOff = 0, warnings = [] } = distribution;
  const notes = [
    missing > 0 ? t("missing", missing) : "",
    refused > 0 ? t("refused", refused) : "",
    cutOff > 0 ? t("cutOff", cutOff) : "",
    stopped ? t("cutShort", stopped) : "",
    ...warnings,
  ];
  at("board-notes").textContent = notes.filter(Boolean).join(" ");
}

function list(id, entries, texts) {
  at(id).hidden = !entries.length;
  at(id).querySelector("ul").replaceChildren(...entries.map((entry) => {
    const row = document.createElement("li");
    for (const text of texts(entry)) {
      const part = document.createElement("p");
      part.dir = "auto";
      part.textContent = text;
      row.append(part);
    }
    return row;
  }));
}

function mark(card, place = 0) {
  for (const { element } of board.cards) element.classList.toggle("marked", element === card?.element);
  const needle = at("strip").lastElementChild;
  needle.hidden = !card || Boolean(card.elsewhere);
  needle.style.insetInlineStart = `${100 * place}%`;
}

/** The card at a place from 0 to 1 on the strip. */
function cardAt(place) {
  let left = place;
  return board.cards.find((card) => !card.elsewhere && (left -= card.share) < 0) ?? board.cards[0];
}

function startOf(card) {
  let start = 0;
  for (const other of board.cards) {
    if (other === card) break;
    start += other.elsewhere ? 0 : other.share;
  }
  return start;
}

function step() {
  const place = Math.random();
  mark(cardAt(place), place);
}

/** Move a marker over the strip, by the probabilities, until the server has drawn, and stop at the drawn card. */
export async function draw(ask) {
  const running = still.matches ? 0 : setInterval(step, 70);
  at("drawn").classList.add("waiting");
  let choice;
  try {
    choice = await ask();
  } catch (error) {
    mark(null);
    throw error;
  } finally {
    clearInterval(running);
    if (!choice) at("drawn").classList.remove("waiting");
  }
  for (const wait of still.matches ? [] : SLOWING) {
    step();
    await pause(wait);
  }
  showDraw(choice);
}

function showDraw({ message, outspoken = {} }) {
  const text = message.content ?? message.refusal ?? "";
  const { probability = null, distribution = "", again = false, verbalized = true } = outspoken;
  at("drawn").classList.remove("waiting");
  if (!verbalized) {
    mark(null);
    board.draws.unshift({ text, refused: true });
  } else {
    let card = board.cards.find((one) => one.text === text);
    if (!card) {
      card = Object.assign(add(text, null, probability ?? 0), { elsewhere: true });
      card.segment.remove();
    }
    card.drawn += 1;
    board.draws.unshift({ text, probability, distribution, again });
    mark(card, startOf(card) + card.share * (0.15 + 0.7 * Math.random()));
    show();
  }
  showDraws();
  announce([at("outcome").textContent, at("outcome-about").textContent].join(" "), true);
}

function showDraws() {
  const [last] = board.draws;
  at("draws").hidden = !last;
  at("outcome").textContent = "";
  at("outcome-about").textContent = t("drawAbout");
  if (!last) return;
  const about = last.refused ? [] : [t("drawnWith", last.probability ?? 0), last.distribution];
  at("outcome").textContent = last.refused ? t("unverbalized", last.text) : last.text;
  at("outcome-about").textContent = about.join(" · ") + (last.again ? ` · ${t("again")}` : "");
  at("log-title").textContent = t("log", board.draws.length);
  const counts = new Map();
  at("log").replaceChildren(...board.draws.toReversed().map(({ text, probability, distribution, again, refused }) => {
    const row = copyOf("t-log");
    counts.set(text, (counts.get(text) ?? 0) + 1);
    row.querySelector(".what").textContent = text;
    row.querySelector(".times").textContent = counts.get(text) > 1 ? `×${number(counts.get(text))}` : "";
    row.querySelector(".fine").textContent = refused ? "" : [percent(probability ?? 0), `${distribution.slice(0, 12)}…`, again ? t("recycled") : ""].filter(Boolean).join(" · ");
    return row;
  }).reverse());
}
