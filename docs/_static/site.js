// Small screens and keyboards: what style sheets alone cannot do.
(() => {
  // A row of a table that is shown as a list names its columns, but for the first, where there are more than two.
  for (const table of document.querySelectorAll("table.docutils")) {
    const heads = [...table.querySelectorAll("thead th")].map((each) => each.textContent);
    if (heads.length < 3) continue;
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, at) => {
        if (at && cell.textContent.trim()) cell.dataset.column = heads[at];
      });
    }
  }

  // What scrolls sideways can be reached with the keyboard, and what does not is no stop on the way.
  const mark = () => {
    for (const each of document.querySelectorAll("pre, .table-wrapper")) {
      if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
      else each.removeAttribute("tabindex");
    }
  };
  addEventListener("load", mark);
  addEventListener("resize", mark);
})();
