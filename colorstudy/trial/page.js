// The stand-alone page: answers are kept in the browser, downloaded at the end, and posted if the page was built so.
(() => {
  "use strict";
  const config = window.COLORSTUDY_TRIAL;
  const place = `colorstudy-trial-${config.build}`;
  const store = {
    load: () => JSON.parse(localStorage.getItem(place) || "null"),
    save: (state) => localStorage.setItem(place, JSON.stringify(state)),
  };

  const post = async (content) => {
    const reply = await fetch(config.post, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content),
    });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
  };

  const download = (state) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(state, null, 1)], { type: "application/json" }));
    link.download = `answers-${state.participant}.json`;
    link.click();
  };

  const asked = Number(new URLSearchParams(location.search).get("session") ?? NaN);
  colorstudyTrial.run(document.getElementById("trial"), config, {
    store, download, post: config.post ? post : null, session: Number.isInteger(asked) ? asked : null,
  });
})();
