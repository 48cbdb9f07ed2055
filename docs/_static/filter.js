// A field on the page of Keras's names shows only the names that contain what is typed, and their namespaces.
document.addEventListener("DOMContentLoaded", () => {
  const page = document.querySelector("section#keras-s-names");
  if (!page) return;
  const namespaces = [...page.querySelectorAll(":scope > section")].flatMap((version) => {
    const rows = version.querySelector("table").tBodies[0].rows; // one for each namespace, in the same order
    return [...version.querySelectorAll("section")].map((section, i) => ({
      section, row: rows[i], path: rows[i].cells[0].textContent.trim(),
      lists: [...section.querySelectorAll("p > code:first-of-type")].map((code) => ({ code, names: code.textContent.split(", ") })),
    }));
  });
  const field = Object.assign(document.createElement("input"), {
    type: "search", placeholder: "Filter by name, such as conv or ops.image", className: "table-filter",
  });
  field.setAttribute("aria-label", "Filter by name");
  page.querySelector("section").before(field);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const { section, row, path, lists } of namespaces) {
      let any = false;
      for (const { code, names } of lists) {
        const shown = names.filter((name) => `${path}.${name}`.toLowerCase().includes(wanted));
        code.textContent = shown.join(", ");
        (code.closest("li") ?? code.closest("p")).hidden = shown.length === 0;
        any ||= shown.length > 0;
      }
      for (const list of section.querySelectorAll("ul"))
        list.previousElementSibling.hidden = [...list.children].every((item) => item.hidden);
      row.hidden = section.hidden = !any;
    }
  });
});
