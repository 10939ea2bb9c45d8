// The trial in a notebook: the state lives in the kernel. It follows trial.js in one module.
export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.className = "colorstudy-trial in-notebook";
    el.append(root);
    const stored = model.get("state");
    let state = stored.build ? stored : null;
    colorstudyTrial.run(root, model.get("config"), {
      store: {
        load: () => state,
        save: (now) => {
          state = now;
          model.set("state", JSON.parse(JSON.stringify(now)));
          model.save_changes();
        },
      },
    });
  },
};
