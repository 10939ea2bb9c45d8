// The stand-alone page: answers are kept in the browser, downloaded at the end, and posted if the page was built so.
(async () => {
  "use strict";
  const config = window.COLORSTUDY_TRIAL;
  const root = document.getElementById("trial");
  const code = new URLSearchParams(location.search).get("code");
  const place = `colorstudy-trial-${config.build}-${code}`;

  if (/^[0-9a-f]{32}$/.test(code)) {
    await new Promise((done) => {
      const script = document.createElement("script");
      Object.assign(script, { src: `sessions/${code}.js`, onload: done, onerror: done });
      document.head.append(script);
    });
  }
  if (!window.COLORSTUDY_SESSION) {
    root.textContent = "Please open the link with the code that you were given.";
    return;
  }

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
    link.download = `answers-${state.session}.json`;
    link.click();
  };

  colorstudyTrial.run(root, { ...config, ...window.COLORSTUDY_SESSION }, {
    store, download, post: config.post ? post : null,
  });
})();
