"use strict";
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);

  const rowsOf = (columns) => {
    if (columns.cells) return cellsOf(columns);
    const names = Object.keys(columns);
    return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  };

  const cellsOf = ({first, last, ranks, unit, cells}) => {
    const rows = [];
    first.forEach((step, i) => {
      const loads = cells.slice(i * ranks.length, (i + 1) * ranks.length);
      const end = last[i] + 1 + (last[i] + 1 - step) / 2; // under the next cell: no seams between columns
      const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
      loads.forEach((load, j) => rows.push({
        first: step, last: last[i], end, rank: ranks[j], load: load * unit, ratio: mean ? load / mean : 1,
      }));
    });
    return rows;
  };

  // Charts over steps move together: what one is zoomed to, all are.
  const views = [];
  let leader = null, wanted = null;
  const follow = async () => {
    while (wanted) {
      const {span} = wanted;
      wanted = null;
      await Promise.all(views.filter((view) => view !== leader).map((view) => view.signal("zoom_first", span).runAsync()));
    }
    leader = null;
  };
  const link = (view) => {
    try { view.signal("zoom_first"); } catch { return; } // not over steps
    views.push(view);
    view.addSignalListener("zoom_first", (_, span) => {
      if (leader && leader !== view) return; // it follows
      const idle = leader === null;
      leader = view;
      wanted = {span};
      if (idle) follow();
    });
  };

  const draw = async (chart) => {
    const spec = {...chart.spec, datasets: {...chart.spec.datasets, rows: rowsOf(chart.columns)}};
    const place = document.getElementById(chart.id);
    const legend = {...page.config.legend, columns: place.clientWidth < 600 ? 1 : 3};
    const config = {...page.config, legend};
    const options = {mode: "vega-lite", actions: false, renderer: chart.renderer, config, defaultStyle: false};
    const {view} = await vegaEmbed(place, spec, options);
    link(view);
  };

  const failed = (chart, error) => {
    document.getElementById(chart.id).textContent = "This chart could not be drawn: " + error.message;
    console.error(chart.id, error);
  };

  (async () => {
    let drawn = 0;
    for (const chart of page.charts) {
      try { await draw(chart); drawn += 1; } catch (error) { failed(chart, error); }
    }
    document.documentElement.dataset.charts = `${drawn} of ${page.charts.length}`;
  })();
})();
