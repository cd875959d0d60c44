(() => {
  "use strict";
  const { themes, charts } = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, typesetMath: false };

  const draw = (theme) => {
    for (const [id, { data, layout }] of Object.entries(charts)) {
      Plotly.react(id, data, { ...structuredClone(layout), template: themes[theme] }, config);
    }
  };
  const drawForScreen = () => draw(dark.matches ? "dark" : "light");

  drawForScreen();
  dark.addEventListener("change", drawForScreen);
  addEventListener("beforeprint", () => draw("light"));
  addEventListener("afterprint", drawForScreen);
})();
