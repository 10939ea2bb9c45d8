// The trial itself, the same on a page and in a notebook: screens, exposures by the frame clock, answers.
//
// config: {build, size, exposure, practice, rest, consent, session, code, trials: [{left, right, first, fake?}]}
// hooks:  {store: {load, save}, post?, download?, answer?}
const colorstudyTrial = (() => {
  "use strict";

  const KEYS = { ArrowLeft: "left", ArrowRight: "right" };
  const frame = () => new Promise(requestAnimationFrame);
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  const element = (tag, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  };

  // A screen of text that a button, or the space bar, leaves.
  const screen = (root, title, paragraphs, button, extra = []) =>
    new Promise((resolve) => {
      const go = element("button", { type: "button", textContent: button });
      const text = element("div", { className: "text" }, element("h1", { textContent: title }));
      text.append(...paragraphs.map((line) => element("p", { textContent: line })), ...extra);
      root.replaceChildren(text, go);
      go.addEventListener("click", resolve, { once: true });
      if (extra.length === 0) go.focus();
    });

  // Two pictures side by side need room; a phone held upright has too little.
  const roomFor = async (root, size) => {
    const small = () => root.clientWidth < 2 * size + 64 || window.innerHeight < size + 160;
    while (small()) {
      const text = `Two pictures of ${size} pixels do not fit. Turn the device or enlarge the window; this goes on by itself.`;
      root.replaceChildren(element("p", { className: "text", textContent: text }));
      await Promise.race([new Promise((go) => window.addEventListener("resize", go, { once: true })), pause(500)]);
    }
  };

  // Milliseconds a frame, the median of some.
  const framePeriod = async () => {
    const times = [];
    for (let i = 0; i < 21; i++) times.push(await frame());
    const steps = times.slice(1).map((t, i) => t - times[i]).sort((a, b) => a - b);
    return steps[10];
  };

  const preload = async (root, trials) => {
    const places = trials.flatMap((trial) => [trial.left, trial.right]);
    const bar = element("progress", { max: places.length, value: 0 });
    root.replaceChildren(element("p", { textContent: "Loading pictures ..." }), bar);
    const images = {};
    await Promise.all(places.map(async (place) => {
      const image = element("img", { alt: "", draggable: false, src: place });
      await image.decode();
      images[place] = image;
      bar.value += 1;
    }));
    return images;
  };

  // Show an image for `exposure` ms by the clock of the frames; what that clock says it was.
  const expose = async (image, exposure, period) => {
    const shown = await frame();
    image.style.visibility = "visible";
    let now = shown;
    while (now - shown < exposure - period / 2) now = await frame();
    image.style.visibility = "hidden";
    return now - shown;
  };

  const choice = (pair, buttons) =>
    new Promise((resolve) => {
      const asked = performance.now();
      const stop = new AbortController();
      const answer = (side) => {
        stop.abort();
        resolve({ choice: side, seconds: (performance.now() - asked) / 1000 });
      };
      pair.classList.add("choose");
      for (const side of ["left", "right"]) {
        buttons[side].disabled = false;
        pair.querySelector(`.${side} .frame`).addEventListener("click", () => answer(side), { signal: stop.signal });
        buttons[side].addEventListener("click", () => answer(side), { signal: stop.signal });
      }
      const key = (event) => {
        if (KEYS[event.key] && !event.repeat) { event.preventDefault(); answer(KEYS[event.key]); }
      };
      document.addEventListener("keydown", key, { signal: stop.signal });
    });

  const judge = async (root, config, trial, images, period, heading) => {
    const buttons = {};
    const sides = ["left", "right"].map((side) => {
      const box = element("div", { className: "frame" }, images[trial[side]]);
      box.style.width = box.style.height = `${config.size}px`;
      buttons[side] = element("button", { type: "button", disabled: true, textContent: `${side} is fake` });
      return element("div", { className: `side ${side}` }, box, buttons[side]);
    });
    const note = element("div", { className: "note", textContent: "Look ..." });
    const pair = element("div", { className: "pair" }, ...sides);
    root.replaceChildren(element("div", { textContent: heading }), pair, note);
    pair.scrollIntoView({ block: "center" }); // in a notebook it may be out of sight
    await pause(500);
    const order = trial.first === "left" ? ["left", "right"] : ["right", "left"];
    const exposures = [];
    for (const side of order) exposures.push(await expose(images[trial[side]], config.exposure * 1000, period));
    note.textContent = "Which one is fake? Left or right arrow key, or touch it. Take your time.";
    const answer = await choice(pair, buttons);
    if (trial.fake) {
      note.textContent = answer.choice === trial.fake ? "Right: that was the fake." : "No: the other one was the fake.";
      await pause(1200);
    }
    return { ...answer, exposures };
  };

  const run = async (root, config, hooks) => {
    const state = hooks.store.load() ?? {
      build: config.build,
      participant: config.code,
      session: config.session,
      answers: [], posted: 0, comment: "", finished: false,
    };
    const save = () => hooks.store.save(state);
    const trials = config.trials;

    // Answers are posted one after the other, in order; what did not arrive is tried again with the next.
    let posting = Promise.resolve();
    const flush = () => {
      if (!hooks.post) return posting;
      posting = posting.then(async () => {
        // The last one waits for the comment, which goes with it.
        while (state.posted < (state.finished ? trials.length : Math.min(state.answers.length, trials.length - 1))) {
          const { build, participant: code } = state;
          const comment = state.posted === trials.length - 1 ? { comment: state.comment } : {};
          await hooks.post({ build, code, ...state.answers[state.posted], ...comment });
          state.posted += 1;
          save();
        }
      }).catch(() => {});
      return posting;
    };

    if (!state.consent) {
      const kept = `Your code is ${state.participant}. Keep it if you may want your answers deleted.`;
      await screen(root, "Real or fake?", [...config.consent, kept], "I agree and take part");
      state.consent = true;
      save();
      const counted = trials.length - config.practice;
      await screen(root, "How it goes", [
        `You will see pairs of pictures, one picture after the other, each for ${config.exposure} s. One is a photograph ` +
          "with its true colours; in the other a computer made the colours up.",
        "Then say which one is fake. There is no hurry.",
        `The first ${config.practice} pairs are practice, with the answer. Then come ${counted} without.`,
      ], "Start");
    }
    if (!state.finished) {
      await roomFor(root, config.size);
      const images = await preload(root, trials.slice(state.answers.length));
      const period = await framePeriod();
      for (let i = state.answers.length; i < trials.length; i++) {
        const counted = i - config.practice;
        if (counted === 0 && config.practice > 0) {
          await screen(root, "Now it counts", ["From here on you will not hear whether you were right."], "Go on");
        } else if (config.rest > 0 && counted > 0 && counted % config.rest === 0) {
          const left = `${trials.length - i} pairs are left. Take a break if you like.`;
          await screen(root, "A break", [left], "Go on");
        }
        await roomFor(root, config.size);
        const heading = counted < 0 ? `Practice ${i + 1} of ${config.practice}`
          : `Pair ${counted + 1} of ${trials.length - config.practice}`;
        const answer = { trial: i, ...(await judge(root, config, trials[i], images, period, heading)) };
        state.answers.push({ ...answer, frame: period });
        save();
        hooks.answer?.(state);
        flush();
      }
      const comment = element("textarea", { rows: 4, maxLength: 500 });
      await screen(root, "Thank you", ["Is there anything you want to tell us? It is not needed."], "Finish", [comment]);
      state.comment = comment.value;
      state.finished = true;
      save();
      hooks.answer?.(state);
    }
    await flush();
    const missing = hooks.post ? state.answers.length - state.posted : 0;
    const lines = [`All ${state.answers.length} answers are in. Your code is ${state.participant}.`];
    if (missing > 0) lines.push(`${missing} of them could not be sent: please download the file and send it to us.`);
    if (!hooks.download) { root.replaceChildren(element("p", { textContent: lines.join(" ") })); return; }
    for (;;) {
      await screen(root, "Done", lines, "Download my answers");
      hooks.download(state);
    }
  };

  return { run };
})();
