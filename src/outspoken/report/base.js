"use strict";

const data = JSON.parse(document.getElementById("chart-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

async function draw(place) {
  const options = {
    actions: false,
    renderer: "svg",
    ast: true, // charts are interpreted: the policy of the page allows no script made from text
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
function compare(a, b, at, words, way) {
  const [x, y] = [key(a, at), key(b, at)];
  if (x === "" || y === "") return (x === "") - (y === "");
  return way * (words ? x.localeCompare(y, undefined, { numeric: true }) : Number(x) - Number(y));
}

function sort(header) {
  const table = header.closest("table");
  const words = header.classList.contains("text");
  const before = header.getAttribute("aria-sort");
  const way = before === null ? (words ? 1 : -1) : before === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(a, b, header.cellIndex, words, way));
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
