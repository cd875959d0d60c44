(() => {
  "use strict";
  const { themes, charts } = JSON.parse(document.getElementById("charts").textContent);
  const ids = Object.keys(charts);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, typesetMath: false };

  const draw = (theme, ids) => {
    for (const id of ids) {
      const { data, layout } = structuredClone(charts[id]);
      Plotly.react(id, data, { ...layout, template: themes[theme] }, config);
    }
  };
  const drawForScreen = () => {
    if (!matchMedia("print").matches) draw(dark.matches ? "dark" : "light", ids);
  };
  // Plotly fades a Sankey diagram in, too late for the paper: the style sheet alone makes that one fit to print.
  const drawForPaper = () => draw("light", ids.filter((id) => charts[id].data[0].type !== "sankey"));

  drawForScreen();
  dark.addEventListener("change", drawForScreen);
  addEventListener("beforeprint", drawForPaper);
  addEventListener("afterprint", drawForScreen);
})();
