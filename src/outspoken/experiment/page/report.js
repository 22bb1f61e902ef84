function filter(table) {
  const choices = [...document.querySelectorAll(`select.filter[data-table="${table}"]`)];
  const rows = [...document.getElementById(table).tBodies[0].rows];
  for (const row of rows) {
    row.hidden = choices.some(({ value, dataset }) => value !== "" && row.dataset[dataset.key] !== value);
  }
  document.getElementById(`${table}-none`).hidden = rows.some((row) => !row.hidden);
}

function choose(select) {
  for (const part of document.querySelectorAll(`[data-part="${select.dataset.shows}"]`)) {
    part.hidden = part.dataset.at !== select.value;
  }
  drawVisible();
}

for (const select of document.querySelectorAll("select.filter")) {
  select.addEventListener("change", () => filter(select.dataset.table));
  filter(select.dataset.table);
}
for (const select of document.querySelectorAll("select.chooser")) {
  select.addEventListener("change", () => choose(select));
  choose(select); // a browser restores the choice when the page is loaded again
}
