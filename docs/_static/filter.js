// A field above each long table of the parity page shows only the rows that contain what is typed.
document.addEventListener("DOMContentLoaded", () => {
  if (!document.querySelector("section#keras-s-names")) return;
  const tables = [...document.querySelectorAll("article table")];
  const field = Object.assign(document.createElement("input"), {
    type: "search", placeholder: "Filter by name, such as conv or ops.image", className: "table-filter",
  });
  field.setAttribute("aria-label", "Filter the tables by name");
  tables[0]?.closest("div.table-wrapper, table")?.before(field);
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of tables.flatMap((table) => [...table.tBodies[0].rows]))
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
});
