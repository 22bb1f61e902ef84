"use strict";

const data = JSON.parse(document.getElementById("chart-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

async function draw(place) {
  const options = {
    actions: false,
    renderer: "svg",
    ast: true, // interpret charts: the policy of the page forbids evaluating text as script
    config: dark.matches ? data.dark : data.light,
    tooltip: { theme: dark.matches ? "dark" : "light" },
  };
  drawn.get(place)?.finalize();
  drawn.set(place, await vegaEmbed(place, data.specs[place.id], options));
}

// A chart takes the width of its element, so a hidden chart is drawn when it becomes visible.
async function drawVisible() {
  for (const place of document.querySelectorAll(".chart")) {
    if (!drawn.has(place) && place.offsetParent !== null) await draw(place);
  }
  document.documentElement.dataset.drawn = String(drawn.size);
}

async function redraw() {
  drawn.forEach((view) => view.finalize());
  drawn.clear();
  await drawVisible();
}

function key(row, at) {
  return row.cells[at].dataset.sort;
}

// Missing values are last in both directions.
function compare(a, b, at, words, direction) {
  const [x, y] = [key(a, at), key(b, at)];
  if (x === "" || y === "") return (x === "") - (y === "");
  return direction * (words ? x.localeCompare(y, undefined, { numeric: true }) : Number(x) - Number(y));
}

function sort(header) {
  const table = header.closest("table");
  const words = header.classList.contains("text");
  const before = header.getAttribute("aria-sort");
  const direction = before === null ? (words ? 1 : -1) : before === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(a, b, header.cellIndex, words, direction));
  body.append(...rows);
}

function copy(button) {
  const code = button.parentElement.querySelector("code");
  getSelection().selectAllChildren(code);
  navigator.clipboard?.writeText(code.textContent).then(
    () => { button.textContent = "copied"; },
    () => { button.textContent = "selected"; },
  );
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches(".sorts th button")) sort(button.closest("th"));
  if (button?.matches(".copy")) copy(button);
});
dark.addEventListener("change", redraw);
drawVisible();
